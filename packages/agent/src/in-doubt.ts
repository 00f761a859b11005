/** Where a domain is whose move ended without a word. */
import { setTimeout as sleep } from "node:timers/promises";
import type { AgentClient } from "./client.ts";
import { AgentError } from "./home.ts";

export interface AskingTimes {
  readonly everyMs: number;
  /** Since the domain stands still meanwhile, and nobody else would look. */
  readonly forMs: number;
}

const PATIENCE: AskingTimes = { everyMs: 2000, forMs: 600_000 };

/**
 * Asks the other agent, again and again while it cannot be reached: the line that broke under the move may be down for some time.
 * @param domid  the domain's number there
 * @returns whether it runs there; undefined if nobody has told by then
 */
export async function runsThere(
  there: Pick<AgentClient, "get">,
  domid: number,
  { everyMs, forMs }: AskingTimes = PATIENCE,
): Promise<boolean | undefined> {
  for (const untilMs = performance.now() + forMs; ; await sleep(everyMs)) {
    try {
      await there.get(`/v1/domains/${domid}/arrival`);
      return true;
    } catch (error) {
      if (error instanceof AgentError && error.status === 404) return false;
      if (performance.now() >= untilMs) return undefined;
    }
  }
}
