/** Watches a stream for a text that may arrive in pieces. */
export class MarkerWatch {
  readonly #marker: Buffer;
  #tail: Buffer<ArrayBufferLike> = Buffer.alloc(0);
  #seen = false;

  constructor(marker: string) {
    this.#marker = Buffer.from(marker);
  }

  /** True for the one piece that completes the marker's first appearance. */
  feed(piece: Uint8Array): boolean {
    if (this.#seen) return false;
    const bytes = Buffer.concat([this.#tail, piece]);
    this.#seen = bytes.includes(this.#marker);
    this.#tail = bytes.subarray(Math.max(0, bytes.length - this.#marker.length + 1));
    return this.#seen;
  }
}
