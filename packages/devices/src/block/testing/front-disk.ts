/** The guest's driver of a disk, for tests: lays out rings, pages and grants in a small domain, and says what it likes. */
import type { Frame, Gfn } from "@xenoserver/cpu";
import { EvtchnOp } from "@xenoserver/xen/abi/event-channel.ts";
import { GnttabOp, GTF_permit_access, GTF_readonly } from "@xenoserver/xen/abi/grant-table.ts";
import { DOMID_SELF, Hypercall } from "@xenoserver/xen/abi/xen.ts";
import { Field } from "@xenoserver/xen/domain/layout.ts";
import { SCRATCH } from "@xenoserver/xen/testing/test-domain.ts";
import type { RingPage } from "../../ring/index.ts";
import { FrontRing } from "../../ring/testing/front-ring.ts";
import { devicePaths, XenbusState } from "../../xenbus/index.ts";
import { type FakeGuest, settle } from "../../xenbus/testing/fake-guest.ts";
import { BLKIF_LAYOUTS, type BlkifLayout, BlkifOp } from "../protocol.ts";

const RING_GFN = 0x300;
/** Data page n has gfn DATA_GFN + n and, unless a test says otherwise, grant FIRST_DATA_REF + n. */
const DATA_GFN = 0x400;
export const FIRST_DATA_REF = 100;
export const DATA_PAGES = 0x200;
const FIRST_RING_REF = 8;
const GRANT_FRAMES = 2;

export interface FrontSegment {
  readonly ref: number;
  readonly first?: number;
  readonly last?: number;
}

export interface Response {
  readonly id: number;
  readonly operation: number;
  readonly status: number;
}

export class FrontDisk {
  readonly frontend: string;
  readonly home: string;
  readonly rings: FrontRing[] = [];
  readonly layout: BlkifLayout;
  readonly #guest: FakeGuest;
  readonly #protocol: string;
  readonly #ports: number[] = [];
  #nextId = 1;
  #chosen = 0;

  constructor(guest: FakeGuest, devid: number, protocol = "x86_64-abi") {
    this.#guest = guest;
    this.#protocol = protocol;
    this.layout = BLKIF_LAYOUTS[protocol]!;
    ({ frontend: this.frontend, backend: this.home } = devicePaths("vbd", guest.host.domid, devid));
    guest.domain.poke(SCRATCH, [DOMID_SELF, GRANT_FRAMES, 0, 0, SCRATCH + 256, 0]);
    guest.domain.hypercall(Hypercall.grant_table_op, [GnttabOp.setup_table, SCRATCH, 1]);
    for (let n = 0; n < DATA_PAGES; n++) this.grant(FIRST_DATA_REF + n, DATA_GFN + n);
  }

  /** Writes an entry of the grant table; no gfn revokes it. */
  grant(ref: number, gfn: number | undefined, readOnly = false): void {
    const { domain } = this.#guest;
    const frame = domain.domain.get(Field.grantFrames + Math.floor(ref / 512)) as Frame;
    const { buffer, byteOffset } = domain.memory.frameBytes(frame);
    const view = new DataView(buffer, byteOffset + (ref % 512) * 8, 8);
    view.setUint32(4, gfn ?? 0, true);
    view.setUint32(0, gfn === undefined ? 0 : GTF_permit_access | (readOnly ? GTF_readonly : 0), true);
  }

  flagsOf(ref: number): number {
    const { domain } = this.#guest;
    const frame = domain.domain.get(Field.grantFrames + Math.floor(ref / 512)) as Frame;
    const { buffer, byteOffset } = domain.memory.frameBytes(frame);
    return new DataView(buffer, byteOffset + (ref % 512) * 8, 8).getUint16(0, true);
  }

  #page(gfn: number): RingPage {
    const frame = this.#guest.domain.memory.frameAt(gfn as Gfn) as Frame;
    return { bytes: this.#guest.domain.memory.frameBytes(frame), markWritten: () => {} };
  }

  /** The live bytes of a data page. */
  data(n: number): Uint8Array {
    return this.#page(DATA_GFN + n).bytes;
  }

  /** Sets rings up and shows them to the backend. */
  async connect(options: { queues?: number; order?: number; persistent?: boolean } = {}): Promise<void> {
    const { queues = 1, order = 0, persistent = false } = options;
    const put = (key: string, value: string | number) => this.#guest.write(`${this.frontend}/${key}`, String(value));
    await settle();
    this.rings.length = this.#ports.length = 0;
    this.#chosen = 0;
    for (let queue = 0; queue < queues; queue++) {
      const folder = queues === 1 ? "" : `queue-${queue}/`;
      const pages = Array.from({ length: 2 ** order }, (_, n) => {
        const index = queue * 16 + n;
        this.grant(FIRST_RING_REF + index, RING_GFN + index);
        put(order === 0 ? `${folder}ring-ref` : `${folder}ring-ref${n}`, FIRST_RING_REF + index);
        const page = this.#page(RING_GFN + index);
        page.bytes.fill(0);
        return page;
      });
      this.rings.push(new FrontRing(pages, this.layout.entryBytes));
      this.#guest.domain.poke(SCRATCH, [DOMID_SELF, 0]);
      this.#guest.domain.hypercall(Hypercall.event_channel_op, [EvtchnOp.alloc_unbound, SCRATCH]);
      this.#ports.push(this.#guest.domain.peek(SCRATCH + 4));
      put(`${folder}event-channel`, this.#ports.at(-1)!);
    }
    if (order > 0) put("ring-page-order", order);
    if (queues > 1) put("multi-queue-num-queues", queues);
    put("protocol", this.#protocol);
    put("feature-persistent", persistent ? 1 : 0);
    this.#guest.show(this.frontend, XenbusState.Initialised);
    await settle();
    this.#guest.show(this.frontend, XenbusState.Connected);
    await settle();
  }

  get backendState(): number {
    return Number(this.#guest.read(`${this.home}/state`));
  }

  #entry(fill: (view: DataView, bytes: Uint8Array) => void): number {
    const bytes = new Uint8Array(this.layout.entryBytes);
    const view = new DataView(bytes.buffer);
    const id = this.#nextId++;
    view.setUint32(this.layout.id, id, true);
    fill(view, bytes);
    this.rings[this.#chosen]!.put(bytes);
    return id;
  }

  /** Chooses the queue for what follows; `connect` chooses the first. */
  use(queue: number): this {
    this.#chosen = queue;
    return this;
  }

  /** Puts a request of up to eleven segments, or with any numbers a test wants. */
  transfer(operation: number, sector: number, segments: readonly FrontSegment[], count = segments.length): number {
    return this.#entry((view, bytes) => {
      bytes[0] = operation;
      bytes[1] = count;
      setU64(view, this.layout.sector, sector);
      writeSegments(view, this.layout.segments, segments);
    });
  }

  /** Puts an indirect request whose segments lie in the data pages that `pages` names. */
  indirect(
    operation: number,
    sector: number,
    segments: readonly FrontSegment[],
    pages: readonly number[],
    count = segments.length,
  ): number {
    pages.forEach((page, n) => {
      const { buffer, byteOffset } = this.data(page);
      writeSegments(new DataView(buffer, byteOffset, 4096), 0, segments.slice(n * 512, n * 512 + 512));
    });
    return this.#entry((view, bytes) => {
      bytes[0] = BlkifOp.INDIRECT;
      bytes[1] = operation;
      view.setUint16(2, count, true);
      setU64(view, this.layout.sector, sector);
      pages.forEach((page, n) => view.setUint32(this.layout.indirectRefs + n * 4, FIRST_DATA_REF + page, true));
    });
  }

  flush(): number {
    return this.#entry((_view, bytes) => {
      bytes[0] = BlkifOp.FLUSH_DISKCACHE;
    });
  }

  discard(sector: number, count: number): number {
    return this.#entry((view, bytes) => {
      bytes[0] = BlkifOp.DISCARD;
      setU64(view, this.layout.sector, sector);
      setU64(view, this.layout.discardCount, count);
    });
  }

  /** Puts any bytes. */
  raw(bytes: Uint8Array): void {
    this.rings[this.#chosen]!.put(bytes);
  }

  /** Shows what was put to the backend, and notifies it. */
  push(): void {
    this.rings.forEach((ring, n) => {
      if (ring.push()) this.notify(n);
    });
  }

  notify(queue: number): void {
    this.#guest.domain.poke(SCRATCH, [this.#ports[queue]!]);
    this.#guest.domain.hypercall(Hypercall.event_channel_op, [EvtchnOp.send, SCRATCH]);
    this.#guest.channels.dispatch();
  }

  /** Everything that was answered on all queues; waits while something is under way. */
  async responses(expected: number): Promise<Response[]> {
    const found: Response[] = [];
    for (let round = 0; round < 50 && found.length < expected; round++) {
      await settle();
      for (const ring of this.rings) {
        for (let bytes = ring.take(); bytes !== undefined; bytes = ring.take()) {
          const view = new DataView(bytes.buffer);
          found.push({ id: view.getUint32(0, true), operation: bytes[8]!, status: view.getInt16(10, true) });
        }
      }
    }
    return found;
  }
}

function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

function writeSegments(view: DataView, at: number, segments: readonly FrontSegment[]): void {
  segments.forEach(({ ref, first = 0, last = 7 }, n) => {
    view.setUint32(at + n * 8, ref, true);
    view.setUint8(at + n * 8 + 4, first);
    view.setUint8(at + n * 8 + 5, last);
  });
}
