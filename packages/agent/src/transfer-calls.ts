/** Saves, snapshots and migrations of one domain, over its control socket: their progress goes to the work that they are, and its end to them. */
import type { ArgsOf, ControlClient, ControlEvent, ResultOf } from "@xenoserver/toolstack/control/index.ts";
import type { MigrationProgress } from "@xenoserver/toolstack/migrate/index.ts";
import type { SnapshotProgress } from "@xenoserver/toolstack/snapshot/index.ts";
import type { Progress } from "./api/schema/index.ts";
import { AgentError } from "./home.ts";
import type { Work } from "./operations/work.ts";

type Transfer = "save" | "snapshot" | "migrate";
type ToldProgress = Extract<ControlEvent, { event: "progress" }>["progress"];

/** Takes the connection's events. */
export class TransferCalls {
  readonly #client: ControlClient;
  readonly #listeners = new Map<string, (progress: ToldProgress) => void>();

  constructor(client: ControlClient) {
    this.#client = client;
    client.onEvent = (event) => {
      if (event.event === "progress") this.#listeners.get(event.token)?.(event.progress);
    };
  }

  /** @throws ControlError, AgentError  nothing is left of it; for all of these */
  save(args: ArgsOf<"save">, work: Work): Promise<ResultOf<"save">> {
    return this.#call("save", args, work, (progress) => ({ kind: "save", ...(progress as { share: number }) }));
  }

  /** @param describe  what the progress is a part of */
  snapshot(
    args: ArgsOf<"snapshot">,
    work: Work,
    describe = (progress: SnapshotProgress): Progress => ({ kind: "snapshot", ...progress }),
  ): Promise<ResultOf<"snapshot">> {
    return this.#call("snapshot", args, work, (progress) => describe(progress as SnapshotProgress));
  }

  migrate(args: ArgsOf<"migrate">, work: Work): Promise<ResultOf<"migrate">> {
    return this.#call("migrate", args, work, (progress) => ({ kind: "migrate", ...(progress as MigrationProgress) }));
  }

  async #call<T extends Transfer>(
    op: T,
    args: ArgsOf<T>,
    { id: token, signal, report, commit }: Work,
    describe: (progress: ToldProgress) => Progress,
  ): Promise<ResultOf<T>> {
    if (signal.aborted) throw new AgentError(409, "it was cancelled before it began");
    // Refused if it is too late; that is known before the end of what was begun.
    const cancel = (): void => void this.#client.call("cancel", { token }).catch(commit);
    this.#listeners.set(token, (progress) => report(describe(progress)));
    signal.addEventListener("abort", cancel, { once: true });
    try {
      return await this.#client.call(op, { ...args, token });
    } finally {
      signal.removeEventListener("abort", cancel);
      this.#listeners.delete(token);
    }
  }
}
