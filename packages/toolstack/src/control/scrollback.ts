/**
 * The last bytes of a console, kept for whoever looks later. Readers hold an offset and read at their own pace; the guest
 * waits for none of them, and who is too slow is told how much went by.
 */
export interface ConsolePiece {
  /** Where the bytes begin, counted from the console's first byte. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export class Scrollback {
  readonly #ring: Uint8Array;
  #end = 0;
  readonly #listeners = new Set<() => void>();

  constructor(capacityBytes: number) {
    this.#ring = new Uint8Array(capacityBytes);
  }

  /** Bytes that were ever written. */
  get end(): number {
    return this.#end;
  }

  /** Offset of the oldest byte that is still there. */
  get begin(): number {
    return Math.max(0, this.#end - this.#ring.length);
  }

  append(bytes: Uint8Array): void {
    const kept = bytes.subarray(Math.max(0, bytes.length - this.#ring.length));
    this.#end += bytes.length - kept.length;
    const at = this.#end % this.#ring.length;
    const first = kept.subarray(0, this.#ring.length - at);
    this.#ring.set(first, at);
    this.#ring.set(kept.subarray(first.length), 0);
    this.#end += kept.length;
    for (const listener of this.#listeners) listener();
  }

  /** Up to `maxBytes` from `offset` on, or from the oldest byte if that is gone. The bytes are the caller's. */
  read(offset: number, maxBytes: number): ConsolePiece {
    const from = Math.min(Math.max(offset, this.begin), this.#end);
    const bytes = new Uint8Array(Math.min(maxBytes, this.#end - from));
    const at = from % this.#ring.length;
    const first = this.#ring.subarray(at, Math.min(at + bytes.length, this.#ring.length));
    bytes.set(first, 0);
    bytes.set(this.#ring.subarray(0, bytes.length - first.length), first.length);
    return { offset: from, bytes };
  }

  /** @param listener  called after every `append` */
  onAppend(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
