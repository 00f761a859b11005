/**
 * The console ring: two byte queues in one page of the guest. `in` is host to guest, `out` guest to host.
 * @see xen/include/public/io/console.h
 */
import { Xencons } from "@xenoserver/xen/abi/console.ts";

/** The ring's page, with indices read and written atomically. */
export class ConsoleRing {
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;

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

  /** Takes all that the guest has written; undefined if its indices make no sense. */
  takeOutput(): Uint8Array | undefined {
    const cons = this.#load(Xencons.out_cons);
    const used = (this.#load(Xencons.out_prod) - cons) >>> 0;
    if (used > Xencons.outBytes) return undefined;
    const taken = new Uint8Array(used);
    for (let n = 0; n < used; n++) taken[n] = this.#bytes[Xencons.out + ((cons + n) & (Xencons.outBytes - 1))];
    if (used > 0) this.#store(Xencons.out_cons, cons + used);
    return taken;
  }

  /** Puts as many of the bytes as there is room for; undefined if the guest's indices make no sense. */
  putInput(bytes: Uint8Array): number | undefined {
    const prod = this.#load(Xencons.in_prod);
    const used = (prod - this.#load(Xencons.in_cons)) >>> 0;
    if (used > Xencons.inBytes) return undefined;
    const count = Math.min(bytes.length, Xencons.inBytes - used);
    for (let n = 0; n < count; n++) this.#bytes[Xencons.in + ((prod + n) & (Xencons.inBytes - 1))] = bytes[n];
    if (count > 0) this.#store(Xencons.in_prod, prod + count);
    return count;
  }
}
