/** What another agent had begun and did not see end. */
import type { Agent } from "../api/route.ts";
import type { OperationKind } from "../api/schema/index.ts";
import { AgentError } from "../home.ts";

/** What was not begun may be asked for again: its idempotency keys are free then. */
export async function recoverOperations({
  supervisor,
  operations,
}: Pick<Agent, "supervisor" | "operations">): Promise<void> {
  const lost = await operations.recover(
    async ({ id, kind }) => {
      if (kind === "create" || kind === "restore") return supervisor.created(id);
      return unknown(kind);
    },
    ({ id, kind }) => (kind === "save" ? supervisor.saved(id).then((result) => result ?? unknown(kind)) : undefined),
  );
  for (const id of lost) supervisor.keys.removeWork(id);
}

function unknown(kind: OperationKind): never {
  throw new AgentError(409, `the agent ended before this ${kind} did; whether it was done is not known`);
}
