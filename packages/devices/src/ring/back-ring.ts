/**
 * The host's end of a ring of requests and responses in pages that a guest shares. The guest writes requests and moves
 * `req_prod`; we take them, and put responses where requests were.
 *
 *     byte 0 req_prod · 4 req_event · 8 rsp_prod · 12 rsp_event · 64 entries, a power of two of them
 *
 * All of it is the guest's to change at any time. So our own indices are kept here, `req_prod` is checked at each look, and
 * a request is copied out whole before anyone reads a field of it.
 * @see xen/include/public/io/ring.h
 */
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";

const REQ_PROD = 0;
const REQ_EVENT = 4;
const RSP_PROD = 8;
const RSP_EVENT = 12;
const ENTRIES_AT = 64;

/** The guest's index makes no sense: nothing more can be taken from this ring. */
export class RingError extends Error {
  override readonly name = "RingError";
}

/** A page of the ring; `MappedGrant` is one. */
export interface RingPage {
  /** The 4096 live bytes, on a multiple of four in their buffer. */
  readonly bytes: Uint8Array;
  /** Called after the page was written. */
  markWritten(): void;
}

export interface RingIndices {
  /** The next request to take. */
  readonly reqCons: number;
  /** The next response to put. */
  readonly rspProd: number;
}

/** How many entries of a size a ring of some pages has. */
export function ringEntries(pageCount: number, entryBytes: number): number {
  const room = Math.floor((pageCount * PAGE_BYTES - ENTRIES_AT) / entryBytes);
  return 2 ** Math.floor(Math.log2(room));
}

export class BackRing {
  /** A power of two. */
  readonly entries: number;
  readonly entryBytes: number;
  readonly #pages: readonly RingPage[];
  readonly #header: Int32Array;
  #reqCons: number;
  #rspProd: number;
  #rspPushed: number;

  /**
   * @param pages       in order; the guest has initialised the header
   * @param entryBytes  the larger of a request and a response, padded as the ABI pads it
   * @param at          where an earlier backend stopped; the default is a ring that was never used
   */
  constructor(pages: readonly RingPage[], entryBytes: number, at: RingIndices = { reqCons: 0, rspProd: 0 }) {
    this.#pages = pages;
    this.entryBytes = entryBytes;
    this.entries = ringEntries(pages.length, entryBytes);
    const { buffer, byteOffset } = pages[0]!.bytes;
    this.#header = new Int32Array(buffer as ArrayBuffer, byteOffset, 4);
    this.#reqCons = at.reqCons;
    this.#rspProd = this.#rspPushed = at.rspProd;
  }

  get indices(): RingIndices {
    return { reqCons: this.#reqCons, rspProd: this.#rspProd };
  }

  /** Requests that were taken and not answered. */
  get inFlight(): number {
    return (this.#reqCons - this.#rspProd) >>> 0;
  }

  /**
   * How many requests can be taken now.
   * @throws RingError  the guest says that there are more than the ring holds
   */
  get waiting(): number {
    const produced = Atomics.load(this.#header, REQ_PROD / 4) >>> 0;
    const waiting = (produced - this.#reqCons) >>> 0;
    if (waiting + this.inFlight > this.entries) {
      throw new RingError(
        `req_prod is ${produced}, expected ${this.#reqCons} to ${(this.#rspProd + this.entries) >>> 0}`,
      );
    }
    return waiting;
  }

  /**
   * Takes the next request; only to be called when one waits.
   * @param into  `entryBytes` long, the caller's own
   */
  take(into: Uint8Array): void {
    this.#copy(this.#reqCons, (page, at, done, count) => into.set(page.bytes.subarray(at, at + count), done));
    this.#reqCons = (this.#reqCons + 1) >>> 0;
  }

  /** Puts a response, which the guest sees after `push`; only to be called for a request that was taken. */
  put(response: Uint8Array): void {
    this.#copy(this.#rspProd, (page, at, done, count) => {
      const part = response.subarray(done, done + count);
      page.bytes.set(part, at);
      if (part.length > 0) page.markWritten();
    });
    this.#rspProd = (this.#rspProd + 1) >>> 0;
  }

  /** Calls `move` with each part of an entry; entries may cross pages. */
  #copy(index: number, move: (page: RingPage, at: number, done: number, count: number) => void): void {
    let at = ENTRIES_AT + (index & (this.entries - 1)) * this.entryBytes;
    for (let done = 0; done < this.entryBytes; ) {
      const within = at % PAGE_BYTES;
      const count = Math.min(this.entryBytes - done, PAGE_BYTES - within);
      move(this.#pages[Math.floor(at / PAGE_BYTES)]!, within, done, count);
      done += count;
      at += count;
    }
  }

  /** Shows the guest the responses that were put. @returns whether it wants to be notified */
  push(): boolean {
    const before = this.#rspPushed;
    const now = this.#rspProd;
    if (now === before) return false;
    Atomics.store(this.#header, RSP_PROD / 4, now | 0);
    this.#pages[0]!.markWritten();
    this.#rspPushed = now;
    const event = Atomics.load(this.#header, RSP_EVENT / 4) >>> 0;
    return (now - event) >>> 0 < (now - before) >>> 0;
  }

  /**
   * Asks to be notified when requests wait. To be called when too few do, before going to sleep.
   * @param wanted  how many are worth waking up for
   * @returns whether they have come meanwhile
   * @throws  RingError  as `waiting`
   */
  finalCheck(wanted = 1): boolean {
    if (this.waiting >= wanted) return true;
    Atomics.store(this.#header, REQ_EVENT / 4, (this.#reqCons + wanted) | 0);
    this.#pages[0]!.markWritten();
    return this.waiting >= wanted;
  }
}
