/**
 * `Idempotency-Key`: a client that did not hear an answer may ask again, and what it asked for is done once. Keys are in the journal, so
 * that this holds when the agent was killed in between.
 *
 * What was refused has changed nothing; its key is free again.
 */
import { createHash } from "node:crypto";
import { AgentError } from "../home.ts";
import type { Supervisor } from "../supervisor.ts";
import type { KeptAnswer, KeyRow, KeyTable } from "./key-table.ts";
import { bodyOf } from "./preconditions.ts";
import type { PostRoute } from "./route.ts";

export interface Keyed {
  readonly key: string;
  readonly route: PostRoute;
  /** The target and the body, as they were sent. */
  readonly target: string;
  readonly text: string;
}

export interface Given extends KeptAnswer {
  readonly isRepeated: boolean;
}

export class Idempotency {
  readonly #keys: KeyTable;
  readonly #supervisor: Supervisor;
  readonly #underWay = new Set<string>();

  constructor(supervisor: Supervisor) {
    this.#keys = supervisor.keys;
    this.#supervisor = supervisor;
  }

  /**
   * @param workId  the number of the work, if it is begun
   * @throws AgentError  422: the key was used for another request; 409: that one is under way, or nobody knows what became of it
   */
  async once({ key, route, target, text }: Keyed, workId: string, act: () => Promise<KeptAnswer>): Promise<Given> {
    if (!/^[\x20-\x7e]{1,255}$/.test(key))
      throw new AgentError(400, `Idempotency-Key is "${key}", expected 1 to 255 letters, digits and signs of ASCII`);
    const fingerprint = createHash("sha256").update(`${target}\n${text}`).digest("base64url");
    const kept = this.#keys.find(key);
    if (kept !== undefined && kept.fingerprint !== fingerprint)
      throw new AgentError(422, `Idempotency-Key is "${key}", which another request has, expected one of its own`);
    if (this.#underWay.has(key)) throw new AgentError(409, `the request with Idempotency-Key "${key}" is under way`);
    if (kept?.answer !== undefined) return { ...kept.answer, isRepeated: true };
    this.#underWay.add(key);
    try {
      if (kept !== undefined) {
        const found = await this.#interrupted(key, kept, route);
        if (found !== undefined) return found;
        this.#keys.remove(key);
      }
      this.#keys.add(key, { fingerprint, workId });
      const answer = await act().catch((error: unknown) => {
        this.#keys.remove(key);
        throw error;
      });
      this.#keys.answer(key, answer);
      return { ...answer, isRepeated: false };
    } finally {
      this.#underWay.delete(key);
    }
  }

  /**
   * What came of a request that another agent did not answer.
   * @returns undefined if it can be done again
   * @throws AgentError  nobody knows
   */
  async #interrupted(key: string, { workId }: KeyRow, route: PostRoute): Promise<Given | undefined> {
    if (route.isRepeatable === true) return undefined;
    if (route.id !== "createDomain")
      throw new AgentError(
        409,
        `the agent ended before it answered the request with Idempotency-Key "${key}"; whether it was done is not known`,
      );
    const info = await this.#supervisor.created(workId);
    if (info === undefined) return undefined;
    const answer = { status: 200, headers: {}, body: bodyOf(info) };
    this.#keys.answer(key, answer);
    return { ...answer, isRepeated: true };
  }
}
