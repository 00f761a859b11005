/**
 * How vcpus tell one another that code changed. Each vcpu has its own cache of decoded and translated code; a store into a frame
 * that any of them has code from goes through the slow path, and the writer enters it here. Readers catch up whenever they enter
 * generated code or take an interrupt, so a kernel that changes code and then makes the other processors synchronise, as the
 * manual demands, finds its change in force there.
 *
 * A ring of entries in shared memory; a reader that fell behind by more than the ring forgets all its code.
 */

const ENTRIES = 1024;
const ENTRY_WORDS = 4;
const HEAD = 0;
const FIRST = 4;
/** Words of an entry. */
const Word = { sequence: 0, frame: 1, range: 2, author: 3 } as const;
/** Range word of an entry that asks to give up write access to a frame. */
const WATCH = -1;

/** Author of changes that the host makes. */
export const HOST_AUTHOR = 255;

export interface CodeLogReader {
  /** Bytes of a frame changed. */
  modified(frame: number, offset: number, sizeBytes: number): void;
  /** Another vcpu has code from a frame now: stores into it must take the slow path. */
  watched(frame: number): void;
  /** So much changed that nothing can be trusted. */
  overflowed(): void;
}

export class CodeLog {
  readonly buffer: SharedArrayBuffer;
  private readonly words: Int32Array;
  private seen: number;

  constructor(buffer = new SharedArrayBuffer((FIRST + ENTRIES * ENTRY_WORDS) * 4)) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
    this.seen = Atomics.load(this.words, HEAD);
  }

  private append(frame: number, range: number, author: number): void {
    const { words } = this;
    const sequence = Atomics.add(words, HEAD, 1);
    const at = FIRST + (sequence & (ENTRIES - 1)) * ENTRY_WORDS;
    // Readers that see the old sequence number wait; those that see another one know that they were lapped.
    Atomics.store(words, at + Word.sequence, -1);
    Atomics.store(words, at + Word.frame, frame);
    Atomics.store(words, at + Word.range, range);
    Atomics.store(words, at + Word.author, author);
    Atomics.store(words, at + Word.sequence, sequence | 0);
  }
  /** @param author number of the vcpu, or `HOST_AUTHOR` */
  modified(frame: number, offset: number, sizeBytes: number, author: number): void {
    this.append(frame, (offset << 13) | sizeBytes, author);
  }
  watch(frame: number, author: number): void {
    this.append(frame, WATCH, author);
  }

  /** True if there is something to catch up with; cheap. */
  get hasNews(): boolean {
    return Atomics.load(this.words, HEAD) !== this.seen;
  }
  /** Shows a reader every entry since the last call that it did not write itself. */
  catchUp(reader: CodeLogReader, self: number): void {
    const { words } = this;
    const head = Atomics.load(words, HEAD);
    if (((head - this.seen) | 0) > ENTRIES / 2) {
      this.seen = head;
      return reader.overflowed();
    }
    for (; this.seen !== head; this.seen = (this.seen + 1) | 0) {
      const at = FIRST + (this.seen & (ENTRIES - 1)) * ENTRY_WORDS;
      while (Atomics.load(words, at + Word.sequence) !== this.seen) {
        // Its author is between taking the place and filling it.
        if (((Atomics.load(words, HEAD) - this.seen) | 0) > ENTRIES) {
          this.seen = Atomics.load(words, HEAD);
          return reader.overflowed();
        }
      }
      const frame = Atomics.load(words, at + Word.frame);
      const range = Atomics.load(words, at + Word.range);
      const author = Atomics.load(words, at + Word.author);
      if (author === self) continue;
      if (range === WATCH) reader.watched(frame);
      else reader.modified(frame, range >> 13, range & 0x1fff);
    }
  }
}
