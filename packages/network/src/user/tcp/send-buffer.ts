/** Bytes on their way to the guest, from the first that it has not acknowledged on. */
export class SendBuffer {
  #chunks: Uint8Array[] = [];
  /** Index in `#chunks` of the first that still holds something, and how much of it is gone. */
  #first = 0;
  #goneBytes = 0;
  #lengthBytes = 0;
  /** Where the last copy ended: the chunk that holds byte `#cursorOffset`, so that copying in order does not search. */
  #cursorChunk = 0;
  #cursorOffset = 0;

  get length(): number {
    return this.#lengthBytes;
  }

  /** The bytes are kept, not copied. */
  append(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#chunks.push(bytes);
    this.#lengthBytes += bytes.length;
  }

  /** Forgets the first `count` bytes, at most all. */
  drop(count: number): void {
    this.#lengthBytes -= count;
    this.#goneBytes += count;
    while (this.#first < this.#chunks.length && this.#goneBytes >= this.#chunks[this.#first].length) {
      this.#goneBytes -= this.#chunks[this.#first].length;
      this.#chunks[this.#first] = EMPTY;
      this.#first++;
    }
    if (this.#first > 64 && this.#first * 2 > this.#chunks.length) {
      this.#chunks.splice(0, this.#first);
      this.#first = 0;
    }
    this.#rewind();
  }

  #rewind(): void {
    this.#cursorChunk = this.#first;
    this.#cursorOffset = -this.#goneBytes;
  }

  /** Copies `count` bytes from `offset` on; they must be there. */
  copyTo(target: Uint8Array, at: number, offset: number, count: number): void {
    if (offset < this.#cursorOffset) this.#rewind();
    let copied = 0;
    while (copied < count) {
      const chunk = this.#chunks[this.#cursorChunk];
      const from = offset + copied - this.#cursorOffset;
      if (from >= chunk.length) {
        this.#cursorOffset += chunk.length;
        this.#cursorChunk++;
        continue;
      }
      const piece = chunk.subarray(from, Math.min(chunk.length, from + count - copied));
      target.set(piece, at + copied);
      copied += piece.length;
    }
  }
}

const EMPTY = new Uint8Array(0);
