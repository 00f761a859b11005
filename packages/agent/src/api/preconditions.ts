/** ETags, and requests that depend on them: RFC 9110, section 13. */
import { createHash } from "node:crypto";
import { AgentError } from "../home.ts";
import type { Supervisor } from "../supervisor.ts";
import { settingsOf } from "./schema/index.ts";

/** A strong one, of a representation's bytes. */
export const etagOf = (body: string): string => `"${createHash("sha256").update(body).digest("base64url")}"`;

export const bodyOf = (value: unknown): string => `${JSON.stringify(value)}\n`;

/** @throws AgentError  the header is ill formed */
export function etagsOf(header: string, name: string): readonly string[] | "*" {
  if (header.trim() === "*") return "*";
  const tags = header.split(",").map((tag) => tag.trim());
  const strange = tags.find((tag) => !/^(W\/)?"[\x21\x23-\x7e]*"$/.test(tag));
  if (strange !== undefined)
    throw new AgentError(400, `${name} is ${strange}, expected ETags in quotation marks, or *`);
  return tags;
}

/** Whether a client has the representation already. */
export function isKnown(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false;
  const tags = etagsOf(ifNoneMatch, "If-None-Match");
  return tags === "*" || tags.some((tag) => tag.replace(/^W\//, "") === etag);
}

/** Whether what is to be changed is still as a client knows it, with its counters or without. */
export class Preconditions {
  readonly #supervisor: Supervisor;
  /** By domain: conditional changes follow one another, so that the second sees what the first has done. */
  readonly #queues = new Map<string, Promise<void>>();

  constructor(supervisor: Supervisor) {
    this.#supervisor = supervisor;
  }

  /**
   * Holds back other conditional changes, if the domain is as the tags say.
   * @param ref  "" for the list of all
   * @returns    what ends that
   * @throws AgentError  412
   */
  async hold(ifMatch: string | undefined, ref: string): Promise<() => void> {
    if (ifMatch === undefined) return () => {};
    const tags = etagsOf(ifMatch, "If-Match");
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const before = this.#queues.get(ref);
    this.#queues.set(ref, released);
    void released.then(() => {
      if (this.#queues.get(ref) === released) this.#queues.delete(ref);
    });
    await before;
    try {
      const current = await this.#tagsOf(ref);
      if (tags !== "*" && !tags.some((tag) => current.includes(tag)))
        throw new AgentError(412, `If-Match is ${ifMatch}, but ${ref === "" ? "what runs" : ref} has changed since`);
    } catch (error) {
      release();
      throw error;
    }
    return release;
  }

  async #tagsOf(ref: string): Promise<string[]> {
    if (ref !== "") {
      const info = await this.#supervisor.call(ref, "info", {});
      return [info, settingsOf(info)].map((value) => etagOf(bodyOf(value)));
    }
    const domains = await this.#supervisor.list();
    return [domains, domains.map(settingsOf)].map((value) => etagOf(bodyOf({ domains: value })));
  }
}
