import type { Duplex } from "node:stream";
import { SaveError } from "../save/error.ts";
import { RecordReader, RecordType, type SavedRecord } from "../save/records.ts";

/** How long the other server may take to load what it has, or to open disks. */
export const ANSWER_MS = 30_000;

/** As many answers as the other side may give before one is looked at: it asks for chunks ahead. */
const MOST_WAITING = 256;

/** The other server will not run the domain, and says why. */
export class Refused extends SaveError {}

/** What the other server says. Its refusal ends the link, so that whoever writes to that hears of it as well. */
export class Answers {
  readonly #link: Duplex;
  readonly #waiting: SavedRecord[] = [];
  #wake = Promise.withResolvers<void>();
  #failure: Error | undefined;

  constructor(link: Duplex) {
    this.#link = link;
    this.#listen().catch((error: Error) => {
      this.#failure ??= error;
      this.#wake.resolve();
    });
  }

  async #listen(): Promise<never> {
    const records = await RecordReader.ofStream("the other server", this.#link);
    for (;;) {
      const record = await records.next();
      if (record.type === RecordType.refused) {
        this.#failure = new Refused(record.payload.toString());
        this.#link.destroy(this.#failure);
        throw this.#failure;
      }
      if (this.#waiting.length === MOST_WAITING) throw new SaveError("the other server says more than it was asked");
      this.#waiting.push({ ...record, payload: Buffer.from(record.payload) });
      this.#wake.resolve();
    }
  }

  /** @throws SaveError  for another answer than those that are wanted, and for none */
  async next(...wanted: readonly number[]): Promise<SavedRecord> {
    const silent = new Error(`no answer within ${ANSWER_MS / 1000} s`);
    const timer = setTimeout(() => this.#link.destroy(silent), ANSWER_MS);
    try {
      while (this.#waiting.length === 0) {
        if (this.#failure !== undefined) throw this.#failure;
        await this.#wake.promise;
        this.#wake = Promise.withResolvers();
      }
    } finally {
      clearTimeout(timer);
    }
    const record = this.#waiting.shift()!;
    if (!wanted.includes(record.type))
      throw new SaveError(`the other server answers ${record.type}, expected ${wanted.join(" or ")}`);
    return record;
  }
}
