/** The guest's end of a shared ring, for tests. */
import { type RingPage, ringEntries } from "../back-ring.ts";

const ENTRIES_AT = 64;

export class FrontRing {
  readonly pages: readonly RingPage[];
  /** req_prod, req_event, rsp_prod, rsp_event; live. */
  readonly header: Int32Array;
  readonly #entryBytes: number;
  readonly #entries: number;
  #reqProd: number;
  #rspCons: number;

  /** @param pages  how many, of its own; or the guest's pages themselves */
  constructor(pages: number | readonly RingPage[], entryBytes: number, start = 0) {
    this.pages =
      typeof pages === "number"
        ? Array.from({ length: pages }, () => ({
            bytes: new Uint8Array(new SharedArrayBuffer(4096)),
            markWritten: () => {},
          }))
        : pages;
    const { buffer, byteOffset } = this.pages[0]!.bytes;
    this.header = new Int32Array(buffer as ArrayBuffer, byteOffset, 4);
    this.header.set([start, start + 1, start, start + 1].map((word) => word | 0));
    this.#entryBytes = entryBytes;
    this.#entries = ringEntries(this.pages.length, entryBytes);
    this.#reqProd = this.#rspCons = start;
  }

  get free(): number {
    return this.#entries - ((this.#reqProd - this.#rspCons) >>> 0);
  }

  put(request: Uint8Array): void {
    const base = ENTRIES_AT + (this.#reqProd & (this.#entries - 1)) * this.#entryBytes;
    request.forEach((byte, n) => {
      this.pages[(base + n) >>> 12]!.bytes[(base + n) & 4095] = byte;
    });
    this.#reqProd = (this.#reqProd + 1) >>> 0;
  }

  /** @returns whether the backend is to be notified */
  push(): boolean {
    const before = this.header[0]! >>> 0;
    this.header[0] = this.#reqProd | 0;
    return (this.#reqProd - (this.header[1]! >>> 0)) >>> 0 < (this.#reqProd - before) >>> 0;
  }

  /** The next response; undefined if there is none. */
  take(): Uint8Array | undefined {
    if (this.#rspCons === this.header[2]! >>> 0) return undefined;
    const base = ENTRIES_AT + (this.#rspCons & (this.#entries - 1)) * this.#entryBytes;
    this.#rspCons = (this.#rspCons + 1) >>> 0;
    this.header[3] = (this.#rspCons + 1) | 0;
    return Uint8Array.from(
      { length: this.#entryBytes },
      (_, n) => this.pages[(base + n) >>> 12]!.bytes[(base + n) & 4095]!,
    );
  }
}
