/** The other end of send.ts: a domain that arrives. */
import type { Duplex } from "node:stream";
import type { DomainConfig } from "../cfg/index.ts";
import { SaveError } from "../save/error.ts";
import { RecordReader, RecordType, RecordWriter } from "../save/records.ts";
import { SavedFile, type SavedHeader } from "../save/saved-domain.ts";

export class ArrivingDomain extends SavedFile {
  readonly #link: Duplex;
  readonly #answers: RecordWriter;

  private constructor(header: SavedHeader, config: DomainConfig, records: RecordReader, link: Duplex) {
    super(header, config, records);
    this.#link = link;
    this.#answers = new RecordWriter(link, false);
  }

  /** @throws SaveError  what comes is no domain */
  static async from(link: Duplex): Promise<ArrivingDomain> {
    const records = await RecordReader.ofStream("the domain that arrives", link);
    const { header, config } = await SavedFile.begin(records);
    return new ArrivingDomain(header, config, records, link);
  }

  override get comesFromElsewhere(): boolean {
    return true;
  }

  /** Says that it could run, and waits for the word that it does not run there any more, nor has its devices. */
  override async commit(): Promise<void> {
    await this.#answers.write(RecordType.ready, new Uint8Array());
    const { type } = await this.records.next();
    if (type !== RecordType.commit) throw new SaveError(`the other server says ${type}, expected ${RecordType.commit}`);
  }

  override async started(): Promise<void> {
    // Who cannot be told asks this server whether the domain runs here.
    await this.#answers.write(RecordType.running, new Uint8Array()).catch(() => {});
    this.#link.end();
  }

  /** Tells the other side why it will not run here; the domain goes on there. */
  async refuse(reason: string): Promise<void> {
    await this.#answers.write(RecordType.refused, Buffer.from(reason)).catch(() => {});
    this.#link.end();
  }
}
