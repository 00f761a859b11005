/**
 * Where a connection's sequence numbers begin. Those of the same two ends go up with time, so that a guest which still waits for
 * stray segments of their last connection sees that this is a new one, and answers; others cannot guess them.
 * @see RFC 6528
 */
import { createHash, randomBytes } from "node:crypto";

/** One every four microseconds: a connection that sent more bytes than that on average is caught up with by a reset instead. */
const NUMBERS_PER_MS = 250;

export class FirstSeq {
  readonly #secret = randomBytes(16);

  /** @param key  of the flow */
  next(key: string): number {
    const own = createHash("sha256").update(this.#secret).update(key, "utf16le").digest().readUInt32LE();
    return (Math.floor(performance.now() * NUMBERS_PER_MS) + own) % 2 ** 32;
  }
}
