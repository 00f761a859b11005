/** The half of a connection that takes from the guest and writes to the host. */
import { seqAdd, seqDistance, TcpFlag, type TcpSegment } from "../../wire/tcp.ts";
import { type Budget, Share } from "../budget.ts";
import type { HostStream } from "./host-stream.ts";

/** Most that waits for the host's kernel, of one connection. The window shown to the guest is what is left of it. */
const LIMIT_BYTES = 1 << 20;
/** What our windows are shifted by, where the guest shifts too. */
export const WINDOW_SCALE = 7;
/** A write that waits costs this much beside its bytes. */
const WRITE_OVERHEAD_BYTES = 256;
/** Shorter payloads are copied if they have to wait, as they would keep the whole frame in memory. */
const COPY_BELOW_BYTES = 4096;

export class Inbound {
  readonly #stream: HostStream;
  readonly #share: Share;
  readonly #budget: Budget;
  readonly #scale: number;
  /** Next sequence number expected, and the window's right edge as the guest knows it. */
  #next: number;
  #edge: number;
  #finished = false;
  #waitingWrites = 0;

  /** @param firstSeq  of the first byte, behind the SYN */
  constructor(stream: HostStream, firstSeq: number, scales: boolean, budget: Budget) {
    this.#stream = stream;
    this.#budget = budget;
    this.#share = new Share(budget);
    this.#scale = scales ? WINDOW_SCALE : 0;
    this.#next = this.#edge = firstSeq;
  }

  get nextSeq(): number {
    return this.#next;
  }

  /** The guest has sent its FIN, and all before it has been taken. */
  get finished(): boolean {
    return this.#finished;
  }

  #freeBytes(): number {
    const waiting = this.#stream.queuedBytes;
    if (waiting === 0) this.#waitingWrites = 0;
    const used = waiting + this.#waitingWrites * WRITE_OVERHEAD_BYTES;
    this.#share.set(used);
    return Math.max(0, Math.min(LIMIT_BYTES - used, this.#budget.leftBytes));
  }

  /** The window for the next segment to the guest, as the header has it. Remembers that the guest will know it. */
  announce(): number {
    const window = Math.min(0xffff, this.#freeBytes() >>> this.#scale);
    const edge = seqAdd(this.#next, window << this.#scale);
    if (seqDistance(edge, this.#edge) > 0) this.#edge = edge;
    return window;
  }

  /** True if the guest should hear that there is room again: it knows of little, and there is much. */
  get opened(): boolean {
    const known = seqDistance(this.#edge, this.#next);
    return known < LIMIT_BYTES / 4 && this.#freeBytes() - known >= Math.min(LIMIT_BYTES / 2, 65536);
  }

  /**
   * Takes a segment's payload and FIN as far as they come next in order and fit the window.
   * @returns true if the guest has to hear of it
   */
  onSegment(segment: TcpSegment): boolean {
    const fin = (segment.flags & TcpFlag.fin) !== 0;
    const { payload } = segment;
    if (payload.length === 0 && !fin) return seqDistance(segment.seq, this.#next) !== 0;
    if (this.#finished) return true;
    const skip = seqDistance(this.#next, segment.seq);
    if (skip < 0 || skip > payload.length) return true;
    const room = Math.max(0, seqDistance(this.#edge, this.#next));
    const count = Math.min(payload.length - skip, room);
    if (count > 0) this.#write(payload.subarray(skip, skip + count));
    if (fin && skip + count === payload.length) {
      this.#next = seqAdd(this.#next, 1);
      this.#finished = true;
      this.#stream.end();
    }
    return true;
  }

  #write(bytes: Uint8Array): void {
    this.#next = seqAdd(this.#next, bytes.length);
    const waits = this.#stream.queuedBytes > 0;
    if (waits) this.#waitingWrites++;
    this.#stream.write(waits && bytes.length < COPY_BELOW_BYTES ? bytes.slice() : bytes);
  }

  stop(): void {
    this.#share.set(0);
  }
}
