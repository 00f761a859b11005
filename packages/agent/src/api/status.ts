/** What an error is in HTTP. */
import { ControlError } from "@xenoserver/toolstack/control/index.ts";
import { AgentError } from "../home.ts";

const STATUS_OF = { invalid: 400, "not-found": 404, conflict: 409, "in-doubt": 409, internal: 500 } as const;

export function statusOf(error: unknown): number {
  if (error instanceof AgentError) return error.status;
  return error instanceof ControlError ? STATUS_OF[error.code] : 500;
}
