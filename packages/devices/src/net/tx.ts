/**
 * The guest's transmit ring: takes packets out of it slot by slot, checks them, and copies their bytes out of the guest.
 * When a packet has been taken, nothing of it is the guest's any more, so it is answered at once.
 */
import type { HostGrants } from "@xenoserver/xen";
import { Gntst } from "@xenoserver/xen/abi/grant-table.ts";
import { type BackRing, RingError } from "../ring/index.ts";
import type { ChecksumState, Frame } from "./frames.ts";
import {
  ETHERNET_HEADER_BYTES,
  EXTRA_FLAG_MORE,
  ExtraType,
  GsoType,
  MAX_DATA_SLOTS,
  NetifStatus,
  readTxRequest,
  TX_SLOT_BYTES,
  TxFlag,
  type TxRequest,
} from "./protocol.ts";

const PAGE_BYTES = 4096;
/** Smaller frames are cut out of a shared block. */
const OWN_BLOCK_FROM_BYTES = 2048;

/** What extra slots said of a packet. */
interface Extras {
  count: number;
  segmentBytes: number;
  wrong: string | undefined;
  joins: number[];
  leaves: number[];
}

/** Told of what only the guest's interface itself is concerned with. */
export interface TxListener {
  onJoin(group: number): boolean;
  onLeave(group: number): void;
  /** A packet was answered with an error. */
  onRefused(reason: string): void;
}

export class TxQueue {
  readonly #ring: BackRing;
  readonly #grants: HostGrants;
  readonly #listener: TxListener;
  readonly #slot = new Uint8Array(TX_SLOT_BYTES);
  readonly #view = new DataView(this.#slot.buffer);

  constructor(ring: BackRing, grants: HostGrants, listener: TxListener) {
    this.#ring = ring;
    this.#grants = grants;
    this.#listener = listener;
  }

  /**
   * Takes the next packet; only to be called when a request waits.
   * @returns its frame; undefined if there was none in it, or it was refused
   * @throws  RingError  the row of slots makes no sense, so that nobody can say where the next packet begins
   */
  take(): Frame | undefined {
    const first = this.#takeRequest();
    const extras = this.#takeExtras(first);
    const rest: TxRequest[] = [];
    for (let flags = first.flags; (flags & TxFlag.more_data) !== 0; flags = rest.at(-1)!.flags) {
      if (rest.length + 1 === MAX_DATA_SLOTS) {
        throw new RingError(`a packet has more than ${MAX_DATA_SLOTS} slots, expected fewer`);
      }
      rest.push(this.#takeRequest());
    }
    if (extras.joins.length + extras.leaves.length > 0) {
      this.#answer(first, extras.count, rest, this.#changeGroups(extras) ? NetifStatus.OKAY : NetifStatus.ERROR);
      return undefined;
    }
    const frame = this.#assemble(first, rest, extras);
    const refused = typeof frame === "string";
    this.#answer(first, extras.count, rest, refused ? NetifStatus.ERROR : NetifStatus.OKAY);
    if (!refused) return frame;
    this.#listener.onRefused(frame);
    return undefined;
  }

  #takeRequest(): TxRequest {
    this.#takeSlot("a request");
    return readTxRequest(this.#view);
  }

  #takeSlot(what: string): void {
    if (this.#ring.waiting === 0) throw new RingError(`the ring ends where a packet has ${what} to come`);
    this.#ring.take(this.#slot);
  }

  #takeExtras(first: TxRequest): Extras {
    const extras: Extras = { count: 0, segmentBytes: 0, wrong: undefined, joins: [], leaves: [] };
    let more = (first.flags & TxFlag.extra_info) !== 0;
    while (more) {
      this.#takeSlot("an extra slot");
      extras.count++;
      more = (this.#slot[1] & EXTRA_FLAG_MORE) !== 0;
      switch (this.#slot[0]) {
        case ExtraType.GSO: {
          const type = this.#slot[4];
          extras.segmentBytes = this.#view.getUint16(2, true);
          if (extras.segmentBytes === 0) extras.wrong = "segments of 0 bytes";
          if (type !== GsoType.TCPV4 && type !== GsoType.TCPV6) extras.wrong = `segmentation type ${type}`;
          break;
        }
        case ExtraType.MCAST_ADD:
          extras.joins.push(this.#group());
          break;
        case ExtraType.MCAST_DEL:
          extras.leaves.push(this.#group());
          break;
        case ExtraType.HASH:
          break;
        default:
          throw new RingError(`an extra slot has type ${this.#slot[0]}, expected 1 to 4`);
      }
    }
    return extras;
  }

  #group(): number {
    return this.#view.getUint16(2) * 2 ** 32 + this.#view.getUint32(4);
  }

  #changeGroups({ joins, leaves }: Extras): boolean {
    for (const group of leaves) this.#listener.onLeave(group);
    return joins.every((group) => this.#listener.onJoin(group));
  }

  /** @returns the frame, or why there is none */
  #assemble(first: TxRequest, rest: readonly TxRequest[], extras: Extras): Frame | string {
    if (extras.wrong !== undefined) return extras.wrong;
    const firstBytes = rest.reduce((left, { size }) => left - size, first.size);
    if (firstBytes < 0) return `${rest.length + 1} slots longer than their packet of ${first.size} bytes`;
    if (first.size < ETHERNET_HEADER_BYTES) return `a packet of ${first.size} bytes`;
    const bytes =
      first.size < OWN_BLOCK_FROM_BYTES ? Buffer.allocUnsafe(first.size) : Buffer.allocUnsafeSlow(first.size);
    let at = 0;
    for (const { gref, offset, size } of [{ ...first, size: firstBytes }, ...rest]) {
      if (offset + size > PAGE_BYTES) return `a slot of ${size} bytes from byte ${offset} of its page`;
      if (size === 0) continue;
      const status = this.#grants.copyFrom(gref, offset, bytes.subarray(at, at + size));
      if (status !== Gntst.okay) return `grant ${gref}, which cannot be read (status ${status})`;
      at += size;
    }
    const checksum = checksumOf(first.flags, extras.segmentBytes);
    return { bytes, checksum, segmentBytes: extras.segmentBytes };
  }

  #answer(first: TxRequest, extraCount: number, rest: readonly TxRequest[], status: number): void {
    this.#put(first.id, status);
    for (let n = 0; n < extraCount; n++) this.#put(0, NetifStatus.NULL);
    for (const { id } of rest) this.#put(id, status);
  }

  #put(id: number, status: number): void {
    this.#slot.fill(0);
    this.#view.setUint16(0, id, true);
    this.#view.setInt16(2, status, true);
    this.#ring.put(this.#slot);
  }
}

function checksumOf(flags: number, segmentBytes: number): ChecksumState {
  if ((flags & TxFlag.csum_blank) !== 0 || segmentBytes > 0) return "blank";
  return (flags & TxFlag.data_validated) !== 0 ? "verified" : "full";
}
