/**
 * Operations of this agent: each is begun by a request, goes on behind its answer, and is kept for a while when it is over. What runs when
 * the agent ends is looked into by the next one.
 */
import { ControlError } from "@xenoserver/toolstack/control/index.ts";
import type { Operation, OperationKind } from "../api/schema/index.ts";
import { statusOf } from "../api/status.ts";
import { AgentError } from "../home.ts";
import type { OperationTable } from "./operation-table.ts";
import { type OperationEvent, RESTART_GAP, RunningOperation } from "./running.ts";
import type { Work } from "./work.ts";

export interface Begun {
  readonly kind: OperationKind;
  readonly canCancel: boolean;
  /** A domain, as the request named it. */
  readonly domain?: string;
}

/** Of so many that are over, all events are still known; of others, the last. */
const MAX_REMEMBERED = 64;

export class OperationRegistry {
  readonly #table: OperationTable;
  /** Those that run, and the last that did; the oldest first. */
  readonly #known = new Map<string, RunningOperation>();

  constructor(table: OperationTable) {
    this.#table = table;
  }

  /** Begins one; what it does must not throw before it is awaited. */
  begin(id: string, begun: Begun, run: (work: Work) => Promise<unknown>): RunningOperation {
    const running = new RunningOperation(id, begun);
    this.#table.put(running.operation);
    const work: Work = {
      id,
      signal: running.signal,
      report: (progress) => running.report(progress),
      commit: () => running.commit(),
    };
    this.#watch(running, run(work));
    return running;
  }

  #watch(running: RunningOperation, done: Promise<unknown>): void {
    this.#known.set(running.operation.id, running);
    void done
      .then(
        (result) => running.succeed(result),
        (error: unknown) => running.fail({ status: statusOf(error), message: (error as Error).message }),
      )
      .then(() => {
        this.#table.put(running.operation);
        this.#forgetOld();
      })
      // An agent that is being ended has closed its journal; the next one looks into it.
      .catch(() => {});
  }

  list(): Operation[] {
    return this.#table.all().map((kept) => this.#known.get(kept.id)?.operation ?? kept);
  }

  /** @throws AgentError  there is none */
  get(id: string): Operation {
    const operation = this.#known.get(id)?.operation ?? this.#table.find(id);
    if (operation === undefined) throw new AgentError(404, `operation ${id} is not there`);
    return operation;
  }

  /** Settles when it is over, or after the time. @throws AgentError  there is none */
  async wait(id: string, timeoutSeconds: number): Promise<Operation> {
    const running = this.#known.get(id);
    if (running !== undefined) await running.over(timeoutSeconds * 1000);
    return this.get(id);
  }

  /**
   * Asks for its end; what was done is undone.
   * @throws AgentError  409: it is over, or of a kind that goes on, or too far
   */
  async cancel(id: string): Promise<Operation> {
    const { kind, state } = this.get(id);
    const running = this.#known.get(id);
    if (running === undefined || state !== "running")
      throw new AgentError(409, `operation ${id} has ${state}, expected one that runs`);
    if (!running.operation.canCancel)
      throw new AgentError(
        409,
        `operation ${id}, a ${kind}, cannot be cancelled ${running.isCommitted ? "any more" : ""}`.trim(),
      );
    running.cancel();
    await running.over();
    const ended = running.operation;
    if (ended.state !== "cancelled")
      throw new AgentError(409, `operation ${id} has ${ended.state}, it was too late to cancel it`);
    return ended;
  }

  /**
   * What happened after an event.
   * @param after  its number; 0 for all that is known
   * @throws AgentError  there is no such operation
   */
  events(id: string, after: number): AsyncIterable<OperationEvent> {
    const running = this.#known.get(id);
    return running === undefined ? lastEventOf(this.get(id), after) : running.events(after);
  }

  #forgetOld(): void {
    const over = [...this.#known].filter(([, { operation }]) => operation.state !== "running");
    for (const [id] of over.slice(0, -MAX_REMEMBERED)) this.#known.delete(id);
  }

  /**
   * Looks into what another agent had begun.
   * @param outcome  what is known to have come of it: a result, or undefined
   * @param rest     of one that may still go on, until its end
   * @returns        those of which nothing came
   */
  async recover(
    outcome: (operation: Operation) => Promise<unknown>,
    rest: (operation: Operation) => Promise<unknown> | undefined,
  ): Promise<string[]> {
    const lost: string[] = [];
    for (const operation of this.#table.all()) {
      if (operation.state !== "running") continue;
      const goesOn = rest(operation);
      if (goesOn !== undefined) {
        this.#watch(RunningOperation.takenUp(operation), goesOn);
        continue;
      }
      const end = {
        ...operation,
        canCancel: false,
        endedAtMs: Date.now(),
        lastEventId: operation.lastEventId + RESTART_GAP,
      };
      try {
        const result = await outcome(operation);
        if (result !== undefined) {
          this.#table.put({ ...end, state: "succeeded", result });
          continue;
        }
        lost.push(operation.id);
        throw new ControlError("conflict", "the agent ended meanwhile, and nothing came of it");
      } catch (error) {
        this.#table.put({
          ...end,
          state: "failed",
          error: { status: statusOf(error), message: (error as Error).message },
        });
      }
    }
    return lost;
  }
}

async function* lastEventOf(operation: Operation, after: number): AsyncGenerator<OperationEvent> {
  if (operation.lastEventId > after) yield { id: operation.lastEventId, event: "end", operation };
}
