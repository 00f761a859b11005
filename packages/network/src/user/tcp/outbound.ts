/**
 * The half of a connection that sends to the guest: what is in flight, how much more the guest wants, and what to do
 * when no answer comes. The way to the guest is a cable of ours, so there is no congestion to control; frames are lost
 * only where a filter or a full queue of the guest drops them.
 */
import { seqAdd, seqDistance } from "../../wire/tcp.ts";
import { SendBuffer } from "./send-buffer.ts";

export interface OutboundConfig {
  /** Sequence number of the first byte. */
  readonly firstSeq: number;
  /** Most payload of one segment on the wire. */
  readonly mss: number;
  /** What the guest shifts its windows by. */
  readonly windowScale: number;
  /** Most payload of one frame: a multiple of `mss` if the device cuts it up. Asked before each. */
  frameBytes(): number;
  /**
   * Sends a segment.
   * @param offset  of its payload in the buffer
   * @returns       false if the device has no room; `pump` is called when it has
   */
  emit(seq: number, offset: number, lengthBytes: number, push: boolean, fin: boolean): boolean;
  /** The guest has not answered for so long that the connection is given up. */
  onGiveUp(): void;
}

const FIRST_RTO_MS = 1000;
const MIN_RTO_MS = 200;
const MAX_RTO_MS = 30_000;
const MAX_RETRIES = 12;
/** After a loss the flight grows from one segment until it is this long; then only the guest's window bounds it. */
const RECOVERED_BYTES = 1 << 20;
const DUPLICATES = 3;

export class Outbound {
  readonly buffer = new SendBuffer();
  readonly #config: OutboundConfig;
  /** First byte not acknowledged, next one to send, and the one behind all that were ever sent. */
  #una: number;
  #next: number;
  #max: number;
  #window = 0;
  #limit = Number.POSITIVE_INFINITY;
  #finQueued = false;
  #finAcked = false;
  #duplicates = 0;
  #retries = 0;
  #timer: NodeJS.Timeout | undefined;
  #timerMs = 0;
  #rtoMs = FIRST_RTO_MS;
  #smoothMs: number | undefined;
  #variationMs = 0;
  #timed: { readonly seq: number; readonly sentMs: number } | undefined;

  constructor(config: OutboundConfig) {
    this.#config = config;
    this.#una = this.#next = this.#max = config.firstSeq;
  }

  /** The sequence number that a segment without payload carries. */
  get nextSeq(): number {
    return this.#next;
  }

  get finAcked(): boolean {
    return this.#finAcked;
  }

  append(bytes: Uint8Array): void {
    this.buffer.append(bytes);
  }

  /** Sends FIN behind everything that was appended. */
  finish(): void {
    this.#finQueued = true;
  }

  /**
   * Takes the acknowledgement and window of a segment.
   * @returns false if it acknowledges what was never sent
   */
  onAck(ack: number, window: number, carriesData: boolean): boolean {
    const count = seqDistance(ack, this.#una);
    if (seqDistance(ack, this.#max) > 0) return false;
    if (count < 0) return true;
    const scaled = window << this.#config.windowScale;
    const duplicate = count === 0 && !carriesData && scaled === this.#window && this.#una !== this.#max;
    this.#window = scaled;
    this.#retries = 0;
    if (count > 0) this.#advance(ack, count);
    else if (duplicate && ++this.#duplicates === DUPLICATES) this.#resendFirst();
    this.pump();
    return true;
  }

  #advance(ack: number, count: number): void {
    const data = Math.min(count, this.buffer.length);
    this.buffer.drop(data);
    if (count > data) this.#finAcked = true;
    this.#una = ack;
    if (seqDistance(this.#next, ack) < 0) this.#next = ack;
    this.#duplicates = 0;
    if (this.#limit < RECOVERED_BYTES) this.#limit *= 2;
    else this.#limit = Number.POSITIVE_INFINITY;
    this.#sampleRtt(ack);
    this.#disarm();
  }

  /** RFC 6298, with one segment timed at once and none that was sent twice. */
  #sampleRtt(ack: number): void {
    if (this.#timed === undefined || seqDistance(ack, this.#timed.seq) <= 0) return;
    const sampleMs = performance.now() - this.#timed.sentMs;
    this.#timed = undefined;
    if (this.#smoothMs === undefined) {
      this.#smoothMs = sampleMs;
      this.#variationMs = sampleMs / 2;
    } else {
      this.#variationMs += (Math.abs(this.#smoothMs - sampleMs) - this.#variationMs) / 4;
      this.#smoothMs += (sampleMs - this.#smoothMs) / 8;
    }
    this.#rtoMs = Math.min(MAX_RTO_MS, Math.max(MIN_RTO_MS, this.#smoothMs + 4 * this.#variationMs));
  }

  /** Sends what may be sent. */
  pump(): void {
    const { mss } = this.#config;
    for (;;) {
      const offset = seqDistance(this.#next, this.#una);
      const unsent = this.buffer.length - offset;
      const room = Math.min(this.#window, this.#limit) - offset;
      const length = Math.max(0, Math.min(unsent, room, this.#config.frameBytes()));
      const fin = this.#finQueued && length === unsent && !this.#finAcked;
      if (length <= 0 && !(fin && unsent === 0)) break;
      // A window that opens by a few bytes is not worth a segment while others are under way.
      if (length < mss && length < unsent && offset > 0) break;
      if (!this.#config.emit(this.#next, offset, length, length > 0 && length === unsent, fin)) break;
      this.#sent(length + (fin ? 1 : 0));
    }
    if (this.#una !== this.#max || (this.buffer.length > 0 && this.#window === 0)) this.#arm();
  }

  #sent(count: number): void {
    const fresh = this.#next === this.#max;
    if (fresh && this.#timed === undefined) this.#timed = { seq: this.#next, sentMs: performance.now() };
    this.#next = seqAdd(this.#next, count);
    if (seqDistance(this.#next, this.#max) > 0) this.#max = this.#next;
  }

  /** Three duplicates say that a segment is missing and later ones have arrived. */
  #resendFirst(): void {
    const length = Math.min(this.buffer.length, this.#config.mss);
    const fin = this.#finQueued && length === this.buffer.length;
    this.#timed = undefined;
    if (length > 0 || fin) this.#config.emit(this.#una, 0, length, false, fin);
  }

  #arm(): void {
    if (this.#timer !== undefined && this.#timerMs === this.#rtoMs) return;
    this.#disarm();
    this.#timerMs = this.#rtoMs;
    this.#timer = setTimeout(() => this.#expire(), this.#rtoMs);
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Begins again at the first byte that was not acknowledged, and carefully. */
  #expire(): void {
    this.#timer = undefined;
    if (++this.#retries > MAX_RETRIES) {
      this.#config.onGiveUp();
      return;
    }
    this.#rtoMs = Math.min(MAX_RTO_MS, this.#rtoMs * 2);
    this.#timed = undefined;
    this.#next = this.#una;
    this.#limit = this.#config.mss;
    if (this.#window === 0 && this.buffer.length > 0) this.#probe();
    else this.pump();
    this.#arm();
  }

  /** Asks a guest whose window is shut whether it still is. */
  #probe(): void {
    if (this.#config.emit(this.#una, 0, 1, false, false)) this.#sent(1);
  }

  stop(): void {
    this.#disarm();
  }
}
