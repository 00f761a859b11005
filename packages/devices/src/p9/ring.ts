/**
 * The ring of the 9pfs transport: bytes in both directions, in pages that one page of the guest names.
 *
 *     byte 0 in_cons · 4 in_prod · 64 out_cons · 68 out_prod · 128 ring_order · 132 grant references, 2^ring_order of them
 *
 * The first half of the pages is `in`, from the host to the guest; the second is `out`. The words are the guest's to change at
 * any time: our own indices are kept here.
 * @see xen/include/public/io/9pfs.h and ring.h, DEFINE_XEN_FLEX_RING
 */
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";
import { RingError, type RingPage } from "../ring/index.ts";

const IN_CONS = 0;
const IN_PROD = 4;
const OUT_CONS = 64;
const OUT_PROD = 68;
export const RING_ORDER = 128;
export const RING_REFS = 132;

export class FlexRing {
  /** Of each direction; a power of two. */
  readonly sizeBytes: number;
  readonly #words: Int32Array;
  readonly #intf: RingPage;
  readonly #pages: readonly RingPage[];
  #inProd: number;
  #outCons: number;

  constructor(intf: RingPage, pages: readonly RingPage[]) {
    this.#intf = intf;
    this.#pages = pages;
    this.sizeBytes = (pages.length * PAGE_BYTES) / 2;
    this.#words = new Int32Array(intf.bytes.buffer as ArrayBuffer, intf.bytes.byteOffset, PAGE_BYTES / 4);
    this.#inProd = this.#load(IN_PROD);
    this.#outCons = this.#load(OUT_CONS);
  }

  #load(at: number): number {
    return Atomics.load(this.#words, at / 4) >>> 0;
  }

  /** Bytes of requests that wait. @throws RingError  the guest's index makes no sense */
  get waitingBytes(): number {
    const produced = this.#load(OUT_PROD);
    const waiting = (produced - this.#outCons) >>> 0;
    if (waiting > this.sizeBytes)
      throw new RingError(
        `out_prod is ${produced}, expected ${this.#outCons} to ${(this.#outCons + this.sizeBytes) >>> 0}`,
      );
    return waiting;
  }

  /** Copies the next bytes without taking them. */
  peek(into: Uint8Array): void {
    this.#copy(this.#outCons, this.sizeBytes, into.length, (page, at, done, count) =>
      into.set(page.bytes.subarray(at, at + count), done),
    );
  }

  take(count: number): void {
    this.#outCons = (this.#outCons + count) >>> 0;
    Atomics.store(this.#words, OUT_CONS / 4, this.#outCons | 0);
    this.#intf.markWritten();
  }

  /** Bytes that answers have room for. @throws RingError */
  get roomBytes(): number {
    const consumed = this.#load(IN_CONS);
    const used = (this.#inProd - consumed) >>> 0;
    if (used > this.sizeBytes)
      throw new RingError(
        `in_cons is ${consumed}, expected ${(this.#inProd - this.sizeBytes) >>> 0} to ${this.#inProd}`,
      );
    return this.sizeBytes - used;
  }

  /** Puts an answer, which the guest sees whole. There has to be room. */
  put(bytes: Uint8Array): void {
    this.#copy(this.#inProd, 0, bytes.length, (page, at, done, count) => {
      page.bytes.set(bytes.subarray(done, done + count), at);
      page.markWritten();
    });
    this.#inProd = (this.#inProd + bytes.length) >>> 0;
    Atomics.store(this.#words, IN_PROD / 4, this.#inProd | 0);
    this.#intf.markWritten();
  }

  #copy(
    index: number,
    base: number,
    count: number,
    move: (page: RingPage, at: number, done: number, count: number) => void,
  ): void {
    for (let done = 0; done < count; ) {
      const at = base + ((index + done) & (this.sizeBytes - 1));
      const within = at % PAGE_BYTES;
      const part = Math.min(count - done, PAGE_BYTES - within);
      move(this.#pages[Math.floor(at / PAGE_BYTES)]!, within, done, part);
      done += part;
    }
  }
}
