/** A link between two servers that is cut, or watched, at a record. For tests. */
import type { Duplex } from "node:stream";

const HEAD_BYTES = 12;

/** What goes wrong with a link. */
export interface Fault {
  /** Whose words are counted. */
  readonly by: "sender" | "receiver" | "both";
  /** The record at which it is cut, before it has passed. */
  readonly cutAt: (type: number, count: number) => boolean;
}

/**
 * Joins a link's halves, the sender's first; the records of one side are counted.
 * @param restMs  how long it takes nothing from the sender after each piece
 */
export function relay(sender: Duplex, receiver: Duplex, fault?: Fault, restMs: () => number = () => 0): void {
  const cut = (): void => {
    for (const end of [sender, receiver]) end.destroy();
  };
  const pass = (from: Duplex, to: Duplex, isCounted: boolean): void => {
    const records = new RecordCounter();
    from.on("data", (bytes: Buffer) => {
      if (to.destroyed) return;
      const passed = isCounted ? records.before(bytes, fault!.cutAt) : bytes.length;
      const isFull = !to.write(bytes.subarray(0, passed));
      const rest = from === sender ? restMs() : 0;
      if (isFull || rest > 0) from.pause();
      if (rest > 0) setTimeout(() => from.resume(), rest);
      else if (isFull) to.once("drain", () => from.resume());
      if (passed < bytes.length) setImmediate(cut);
    });
    from.on("close", cut);
    from.on("end", () => to.end());
    from.on("error", () => {});
  };
  pass(sender, receiver, fault !== undefined && fault.by !== "receiver");
  pass(receiver, sender, fault !== undefined && fault.by !== "sender");
}

/** Finds records in a stream of bytes. */
class RecordCounter {
  #skip = HEAD_BYTES;
  #head = Buffer.alloc(0);
  #count = 0;
  /** @returns how many of the bytes come before the record to cut at */
  before(bytes: Buffer, isIt: Fault["cutAt"]): number {
    for (let at = 0; at < bytes.length; ) {
      const skipped = Math.min(this.#skip, bytes.length - at);
      this.#skip -= skipped;
      at += skipped;
      if (at === bytes.length) break;
      const piece = bytes.subarray(at, at + HEAD_BYTES - this.#head.length);
      this.#head = Buffer.concat([this.#head, piece]);
      if (this.#head.length === HEAD_BYTES) {
        if (isIt(this.#head.readUInt32LE(0), this.#count++)) return at;
        this.#skip = this.#head.readUInt32LE(4);
        this.#head = Buffer.alloc(0);
      }
      at += piece.length;
    }
    return bytes.length;
  }
}
