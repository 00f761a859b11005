/** What the side that a domain goes to asks for before it has a place. */
import { open } from "node:fs/promises";
import type { ChunkSource, Digest } from "@xenoserver/storage";
import { SaveError } from "../save/error.ts";
import { type Records, RecordType, type RecordWriter } from "../save/records.ts";
import type { FileOffer } from "./offer.ts";

const DIGEST_BYTES = 32;

export class Requests implements ChunkSource {
  readonly name = "the other server";
  readonly #records: Records;
  readonly #answers: RecordWriter;
  readonly #pending = new Map<Digest, PromiseWithResolvers<Uint8Array>>();
  #reading = false;

  constructor(records: Records, answers: RecordWriter) {
    this.#records = records;
    this.#answers = answers;
  }

  /** @returns the chunk's file, which nobody has looked at @throws SaveError  the link was cut */
  async fetch(digest: Digest): Promise<Uint8Array> {
    const wanted = Promise.withResolvers<Uint8Array>();
    wanted.promise.catch(() => {});
    this.#pending.set(digest, wanted);
    await this.#ask({ chunk: digest });
    void this.#read();
    return wanted.promise;
  }

  /** While something is asked for, and no longer: what follows is for another reader. */
  async #read(): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    try {
      while (this.#pending.size > 0) {
        const payload = await this.#next(RecordType.chunk);
        const digest = payload.toString("hex", 0, DIGEST_BYTES) as Digest;
        const wanted = this.#pending.get(digest);
        if (wanted === undefined) throw new SaveError(`chunk ${digest} comes, expected one that was asked for`);
        this.#pending.delete(digest);
        wanted.resolve(Uint8Array.from(payload.subarray(DIGEST_BYTES)));
      }
    } catch (error) {
      for (const wanted of this.#pending.values()) wanted.reject(error);
      this.#pending.clear();
    } finally {
      this.#reading = false;
    }
  }

  /** Has a file written to a path where there is none. Nothing else may be asked for meanwhile. @throws SaveError */
  async file({ key, sizeBytes }: FileOffer, path: string): Promise<void> {
    const file = await open(path, "wx", 0o600);
    try {
      await this.#ask({ file: key });
      for (let left = sizeBytes; left > 0; ) {
        const piece = await this.#next(RecordType.file);
        if (piece.length === 0 || piece.length > left)
          throw new SaveError(`${key}: ${piece.length} bytes come, expected 1 to ${left}`);
        await file.write(piece);
        left -= piece.length;
      }
    } finally {
      await file.close();
    }
  }

  #ask(what: object): Promise<void> {
    return this.#answers.write(RecordType.want, Buffer.from(JSON.stringify(what)));
  }

  async #next(wanted: number): Promise<Buffer> {
    const { type, payload } = await this.#records.next();
    if (type !== wanted) throw new SaveError(`a record of type ${type}, expected ${wanted}`);
    return payload;
  }
}
