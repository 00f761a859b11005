/** The guest's driver of an interface, for tests: lays out rings, pages and grants in a small domain, and says what it likes. */
import type { Gfn, Frame as MemoryFrame } from "@xenoserver/cpu";
import { EvtchnOp } from "@xenoserver/xen/abi/event-channel.ts";
import { GnttabOp, GTF_permit_access, GTF_readonly } from "@xenoserver/xen/abi/grant-table.ts";
import { DOMID_SELF, Hypercall } from "@xenoserver/xen/abi/xen.ts";
import { Field } from "@xenoserver/xen/domain/layout.ts";
import { SCRATCH } from "@xenoserver/xen/testing/test-domain.ts";
import type { RingPage } from "../../ring/index.ts";
import { FrontRing } from "../../ring/testing/front-ring.ts";
import { devicePaths, XenbusState } from "../../xenbus/index.ts";
import { type FakeGuest, settle } from "../../xenbus/testing/fake-guest.ts";
import { RX_SLOT_BYTES, TX_SLOT_BYTES } from "../protocol.ts";

const RING_GFN = 0x300;
const DATA_GFN = 0x400;
const FIRST_RING_REF = 8;
/** Data page n has grant FIRST_DATA_REF + n. Those from RX_PAGES on are lent for receiving. */
export const FIRST_DATA_REF = 100;
export const DATA_PAGES = 0x180;
export const RX_PAGES = 0x40;
const GRANT_FRAMES = 2;

export interface TxSlot {
  readonly gref?: number;
  readonly offset?: number;
  readonly flags?: number;
  readonly id?: number;
  readonly size: number;
}

export class FrontVif {
  readonly frontend: string;
  readonly home: string;
  readonly tx: FrontRing[] = [];
  readonly rx: FrontRing[] = [];
  readonly #guest: FakeGuest;
  #ports: number[] = [];
  #lent = 0;

  constructor(guest: FakeGuest, devid: number) {
    this.#guest = guest;
    ({ frontend: this.frontend, backend: this.home } = devicePaths("vif", guest.host.domid, devid));
    guest.domain.poke(SCRATCH, [DOMID_SELF, GRANT_FRAMES, 0, 0, SCRATCH + 256, 0]);
    guest.domain.hypercall(Hypercall.grant_table_op, [GnttabOp.setup_table, SCRATCH, 1]);
    for (let n = 0; n < DATA_PAGES; n++) this.grant(FIRST_DATA_REF + n, DATA_GFN + n, n < RX_PAGES);
  }

  /** Writes an entry of the grant table; no gfn revokes it. */
  grant(ref: number, gfn: number | undefined, readOnly = false): void {
    const { domain } = this.#guest;
    const frame = domain.domain.get(Field.grantFrames + Math.floor(ref / 512)) as MemoryFrame;
    const { buffer, byteOffset } = domain.memory.frameBytes(frame);
    const view = new DataView(buffer, byteOffset + (ref % 512) * 8, 8);
    view.setUint32(4, gfn ?? 0, true);
    view.setUint32(0, gfn === undefined ? 0 : GTF_permit_access | (readOnly ? GTF_readonly : 0), true);
  }

  #page(gfn: number): RingPage {
    const frame = this.#guest.domain.memory.frameAt(gfn as Gfn) as MemoryFrame;
    return { bytes: this.#guest.domain.memory.frameBytes(frame), markWritten: () => {} };
  }

  /** The live bytes of a data page. */
  data(n: number): Uint8Array {
    return this.#page(DATA_GFN + n).bytes;
  }

  put(key: string, value: string | number): void {
    this.#guest.write(`${this.frontend}/${key}`, String(value));
  }

  /** Sets rings up and shows them to the backend. */
  async connect(options: { queues?: number; keys?: Readonly<Record<string, string | number>> } = {}): Promise<void> {
    const { queues = 1, keys = {} } = options;
    await settle();
    this.tx.length = this.rx.length = this.#lent = 0;
    this.#ports = [];
    const ring = (index: number, entryBytes: number): FrontRing => {
      this.grant(FIRST_RING_REF + index, RING_GFN + index);
      const page = this.#page(RING_GFN + index);
      page.bytes.fill(0);
      return new FrontRing([page], entryBytes);
    };
    for (let queue = 0; queue < queues; queue++) {
      const folder = queues === 1 ? "" : `queue-${queue}/`;
      this.tx.push(ring(2 * queue, TX_SLOT_BYTES));
      this.rx.push(ring(2 * queue + 1, RX_SLOT_BYTES));
      this.#guest.domain.poke(SCRATCH, [DOMID_SELF, 0]);
      this.#guest.domain.hypercall(Hypercall.event_channel_op, [EvtchnOp.alloc_unbound, SCRATCH]);
      this.#ports.push(this.#guest.domain.peek(SCRATCH + 4));
      this.put(`${folder}tx-ring-ref`, FIRST_RING_REF + 2 * queue);
      this.put(`${folder}rx-ring-ref`, FIRST_RING_REF + 2 * queue + 1);
      this.put(`${folder}event-channel`, this.#ports.at(-1)!);
    }
    if (queues > 1) this.put("multi-queue-num-queues", queues);
    const offers = { "request-rx-copy": 1, "feature-sg": 1, "feature-gso-tcpv4": 1, "feature-gso-tcpv6": 1 };
    for (const [key, value] of Object.entries({ ...offers, ...keys })) this.put(key, value);
    this.#guest.show(this.frontend, XenbusState.Initialised);
    await settle();
    this.#guest.show(this.frontend, XenbusState.Connected);
    await settle();
  }

  get backendState(): number {
    return Number(this.#guest.read(`${this.home}/state`));
  }

  notify(queue = 0): void {
    this.#guest.domain.poke(SCRATCH, [this.#ports[queue]!]);
    this.#guest.domain.hypercall(Hypercall.event_channel_op, [EvtchnOp.send, SCRATCH]);
    this.#guest.channels.dispatch();
  }

  txSlot({ gref = FIRST_DATA_REF, offset = 0, flags = 0, id = 0, size }: TxSlot, queue = 0): void {
    const bytes = new Uint8Array(TX_SLOT_BYTES);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, gref, true);
    view.setUint16(4, offset, true);
    view.setUint16(6, flags, true);
    view.setUint16(8, id, true);
    view.setUint16(10, size, true);
    this.tx[queue]!.put(bytes);
  }

  extra(type: number, body: readonly number[], flags = 0): void {
    const bytes = new Uint8Array(TX_SLOT_BYTES);
    bytes.set([type, flags, ...body]);
    this.tx[0]!.put(bytes);
  }

  /** Shows what was put to the backend, and notifies it if it wants to be. */
  push(queue = 0): void {
    if (this.tx[queue]!.push()) this.notify(queue);
  }

  /** Ids and statuses of what was answered. */
  txResponses(queue = 0): [id: number, status: number][] {
    const found: [number, number][] = [];
    for (let bytes = this.tx[queue]!.take(); bytes !== undefined; bytes = this.tx[queue]!.take()) {
      const view = new DataView(bytes.buffer);
      found.push([view.getUint16(0, true), view.getInt16(2, true)]);
    }
    return found;
  }

  /** Lends pages for frames to come. */
  lend(count: number, queue = 0): void {
    for (let n = 0; n < count; n++) {
      const bytes = new Uint8Array(RX_SLOT_BYTES);
      const view = new DataView(bytes.buffer);
      view.setUint16(0, this.#lent, true);
      view.setUint32(4, FIRST_DATA_REF + RX_PAGES + (this.#lent++ % 256), true);
      this.rx[queue]!.put(bytes);
    }
    if (this.rx[queue]!.push()) this.notify(queue);
  }

  /** Raw slots of what was received, since the last time. */
  rxSlots(queue = 0): DataView[] {
    const found: DataView[] = [];
    for (let bytes = this.rx[queue]!.take(); bytes !== undefined; bytes = this.rx[queue]!.take()) {
      found.push(new DataView(bytes.buffer));
    }
    return found;
  }
}
