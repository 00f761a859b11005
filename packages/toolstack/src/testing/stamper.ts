import { STAMP_TEXT } from "@xenoserver/testkit";
import type { DomainConfig } from "../cfg/index.ts";
import { type LaunchOptions, launchDomain, type RunningDomain } from "../domain/index.ts";
import type { SavedFile } from "../save/index.ts";

/** A domain with `stampGuest`, which says when it has gone through all its pages once more. */
export class Stamper {
  readonly domain: RunningDomain;
  readonly #rounds: { count: number };

  private constructor(domain: RunningDomain, rounds: { count: number }) {
    this.domain = domain;
    this.#rounds = rounds;
  }

  /** @param from  where it goes on, instead of from its first round */
  static async start(config: DomainConfig, from?: SavedFile, threads?: LaunchOptions["threads"]): Promise<Stamper> {
    const rounds = { count: 0 };
    const onLog = (message: string): void => {
      rounds.count += message.split(STAMP_TEXT.trim()).length - 1;
    };
    const options = { ...(from && { from }), ...(threads && { threads }) };
    return new Stamper(await launchDomain(config, { onConsole: () => {}, onLog }, options), rounds);
  }

  /** How often it has gone through all its pages. */
  get rounds(): number {
    return this.#rounds.count;
  }

  /** Settles when it has gone on; rejects if it has found a page with something else in it. */
  async goesOn(): Promise<void> {
    const until = this.#rounds.count + 2;
    const ended = this.domain.exited.then(({ reason, detail }) => {
      throw new Error(`the guest ended: ${reason}: ${detail}`);
    });
    while (this.#rounds.count < until) await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 5))]);
  }
}
