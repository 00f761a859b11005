/**
 * The pair of byte rings in a guest's xenstore page. The guest can write anything into the page at any time: indices are
 * copied once, checked against the ring's size, and never used unmasked.
 */
import {
  XENSTORE_CONNECTED,
  XENSTORE_PAYLOAD_MAX,
  XENSTORE_RECONNECT,
  XS_HEADER_BYTES,
  XsRing,
  XsRingError,
} from "@xenoserver/xen/abi/xs-wire.ts";
import { decodeHeader, encodeMessage, type Message } from "./message.ts";

export type RingFault = "index" | "protocol" | "overflow";

/** More bytes waiting for a guest than this mean that it does not read; the connection is given up. */
const MAX_QUEUED_BYTES = 1 << 20;

export interface RingState {
  /** Bytes of a request that has not arrived completely. */
  readonly received: string;
  /** Bytes of replies that the guest has not taken yet. */
  readonly queued: string;
}

export class XenstoreRing {
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #partial = new Uint8Array(XS_HEADER_BYTES + XENSTORE_PAYLOAD_MAX);
  #partialBytes = 0;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #consumed = false;

  /** @param page  the 4096 live bytes, on a multiple of four in their buffer */
  constructor(page: Uint8Array) {
    this.#bytes = page;
    this.#words = new Int32Array(page.buffer as ArrayBuffer, page.byteOffset, page.length / 4);
  }

  #load(offset: number): number {
    return Atomics.load(this.#words, offset / 4) >>> 0;
  }

  #store(offset: number, value: number): void {
    Atomics.store(this.#words, offset / 4, value | 0);
  }

  /** True if replies wait that do not fit the ring: no more requests should be taken then. */
  get isCongested(): boolean {
    return this.#queuedBytes > 0;
  }

  /** True if the guest asked for a fresh start. */
  get wantsReconnect(): boolean {
    return this.#load(XsRing.connection) === XENSTORE_RECONNECT;
  }

  /** Empties both rings and forgets what was under way; the guest sees itself connected. */
  reconnect(): void {
    this.#partialBytes = 0;
    this.#queue = [];
    this.#queuedBytes = 0;
    for (const index of [XsRing.req_cons, XsRing.req_prod, XsRing.rsp_cons, XsRing.rsp_prod]) this.#store(index, 0);
    this.#store(XsRing.error, XsRingError.none);
    this.#store(XsRing.connection, XENSTORE_CONNECTED);
  }

  /** Tells the guest why it gets no more answers. */
  showFault(fault: RingFault): void {
    const code = { index: XsRingError.ringidx, protocol: XsRingError.proto, overflow: XsRingError.comm }[fault];
    this.#store(XsRing.error, code);
  }

  /**
   * Takes the next request out of the ring.
   * @returns  undefined if none has arrived completely
   */
  receive(): Message | RingFault | undefined {
    const header = this.#fill(XS_HEADER_BYTES);
    if (header !== true) return header;
    const { lengthBytes, ...rest } = decodeHeader(this.#partial);
    if (lengthBytes > XENSTORE_PAYLOAD_MAX) return "protocol";
    const whole = this.#fill(XS_HEADER_BYTES + lengthBytes);
    if (whole !== true) return whole;
    const payload = this.#partial.slice(XS_HEADER_BYTES, XS_HEADER_BYTES + lengthBytes);
    this.#partialBytes = 0;
    return { ...rest, payload };
  }

  /**
   * Copies bytes from the ring until `wanted` are there or the ring is empty. It looks again after every move: a guest rings for what it
   * writes only if all before it was taken, so what it wrote meanwhile must not be left.
   */
  #fill(wanted: number): true | RingFault | undefined {
    while (this.#partialBytes < wanted) {
      const taken = this.#fillOnce(wanted);
      if (typeof taken === "string") return taken;
      if (!taken) return undefined;
    }
    return true;
  }

  #fillOnce(wanted: number): boolean | RingFault {
    const cons = this.#load(XsRing.req_cons);
    const available = (this.#load(XsRing.req_prod) - cons) >>> 0;
    if (available > XsRing.ringBytes) return "index";
    if (available === 0) return false;
    const count = Math.min(available, wanted - this.#partialBytes);
    for (let n = 0; n < count; n++) {
      this.#partial[this.#partialBytes + n] = this.#bytes[XsRing.req + ((cons + n) & (XsRing.ringBytes - 1))];
    }
    this.#partialBytes += count;
    this.#store(XsRing.req_cons, cons + count);
    this.#consumed = true;
    return true;
  }

  /** True if request bytes were taken since the last call: the guest may wait for the room. */
  tookBytes(): boolean {
    const took = this.#consumed;
    this.#consumed = false;
    return took;
  }

  /** Queues a message; `flush` puts it into the ring. */
  send(message: Message): RingFault | undefined {
    const bytes = encodeMessage(message);
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    return this.#queuedBytes > MAX_QUEUED_BYTES ? "overflow" : undefined;
  }

  /**
   * Moves queued bytes into the ring until all are there or the ring is full; true if any moved. It looks again after
   * every move: a guest rings for room only if it reads from a full ring, so room that it made meanwhile must not be left.
   */
  flush(): boolean | RingFault {
    let movedAny = false;
    for (;;) {
      const moved = this.#flushOnce();
      if (typeof moved === "string") return moved;
      if (!moved) return movedAny;
      movedAny = true;
    }
  }

  #flushOnce(): boolean | RingFault {
    if (this.#queuedBytes === 0) return false;
    const prod = this.#load(XsRing.rsp_prod);
    const used = (prod - this.#load(XsRing.rsp_cons)) >>> 0;
    if (used > XsRing.ringBytes) return "index";
    let room = XsRing.ringBytes - used;
    let at = prod;
    while (room > 0 && this.#queue.length > 0) {
      const first = this.#queue[0];
      const count = Math.min(room, first.length);
      for (let n = 0; n < count; n++) this.#bytes[XsRing.rsp + ((at + n) & (XsRing.ringBytes - 1))] = first[n];
      at += count;
      room -= count;
      this.#queuedBytes -= count;
      if (count === first.length) this.#queue.shift();
      else this.#queue[0] = first.subarray(count);
    }
    this.#store(XsRing.rsp_prod, at);
    return at !== prod;
  }

  exportState(): RingState {
    const queued = Buffer.concat(this.#queue);
    return {
      received: Buffer.from(this.#partial.subarray(0, this.#partialBytes)).toString("base64"),
      queued: queued.toString("base64"),
    };
  }

  importState(state: RingState): void {
    const received = Buffer.from(state.received, "base64").subarray(0, this.#partial.length);
    this.#partial.set(received);
    this.#partialBytes = received.length;
    const queued = new Uint8Array(Buffer.from(state.queued, "base64"));
    this.#queue = queued.length > 0 ? [queued] : [];
    this.#queuedBytes = queued.length;
  }
}
