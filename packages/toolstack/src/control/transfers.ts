/** What copies all of a domain: saves, snapshots, moves. One at a time, each of which its client can follow and take back. */
import type { Hand, MigrationProgress } from "../migrate/index.ts";
import type { SnapshotProgress } from "../snapshot/index.ts";
import { ControlError } from "./protocol.ts";

export type TransferProgress = MigrationProgress | SnapshotProgress | { readonly share: number };

export class Transfers {
  readonly #underWay = new Map<string, AbortController>();
  #last: Promise<unknown>;

  /** @param whole  settles when all of the domain's memory is here */
  constructor(whole: Promise<void> = Promise.resolve()) {
    this.#last = whole.catch(() => {});
  }

  /**
   * Does something when nothing else of the kind is under way: they share the dirty log.
   * @param token  by which it can be cancelled
   */
  async run<T>(token: string | undefined, work: (hand: Required<Hand>) => Promise<T>): Promise<T> {
    if (token !== undefined && this.#underWay.has(token))
      throw new ControlError("invalid", `token is "${token}", which another has`);
    const controller = new AbortController();
    if (token !== undefined) this.#underWay.set(token, controller);
    const forget = (): void => {
      if (token !== undefined) this.#underWay.delete(token);
    };
    const done = this.#last.then(() => work({ signal: controller.signal, onCommit: forget }));
    this.#last = done.catch(() => {});
    return done.finally(forget);
  }

  /** @throws ControlError  nothing of that token is under way, or it cannot be taken back any more */
  cancel(token: string): void {
    const controller = this.#underWay.get(token);
    if (controller === undefined) throw new ControlError("conflict", "it is too late to cancel it");
    controller.abort(new Error("it was cancelled"));
  }
}
