/** A disk in memory, for tests. Operations can be held back, and made to fail. */
import type { BlockInfo, BlockStore } from "../store.ts";

export class MemoryStore implements BlockStore {
  readonly bytes: Uint8Array;
  /** What was called, in order: "write 0 512". */
  readonly calls: string[] = [];
  readOnly = false;
  discardGranularityBytes: number | undefined = 512;
  sizeBytes: number;
  closed = false;
  failure: Error | undefined;
  #gate: Promise<void> | undefined;

  constructor(sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes);
    this.sizeBytes = sizeBytes;
  }

  get info(): BlockInfo {
    const { sizeBytes, readOnly, discardGranularityBytes } = this;
    return { sizeBytes, readOnly, ...(discardGranularityBytes !== undefined && { discardGranularityBytes }) };
  }

  /** Holds operations back until the returned function is called. */
  hold(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gate = promise;
    return () => {
      this.#gate = undefined;
      resolve();
    };
  }

  async #enter(call: string): Promise<void> {
    this.calls.push(call);
    await this.#gate;
    if (this.failure !== undefined) throw this.failure;
  }

  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    const length = into.reduce((sum, part) => sum + part.length, 0);
    await this.#enter(`read ${offset} ${length}`);
    let at = offset;
    for (const part of into) {
      part.set(this.bytes.subarray(at, at + part.length));
      at += part.length;
    }
  }

  async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    const length = from.reduce((sum, part) => sum + part.length, 0);
    await this.#enter(`write ${offset} ${length}`);
    let at = offset;
    for (const part of from) {
      this.bytes.set(part, at);
      at += part.length;
    }
  }

  flush(): Promise<void> {
    return this.#enter("flush");
  }

  async discard(offset: number, lengthBytes: number): Promise<void> {
    await this.#enter(`discard ${offset} ${lengthBytes}`);
    this.bytes.fill(0, offset, offset + lengthBytes);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}
