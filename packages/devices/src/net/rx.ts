/**
 * The guest's receive ring: pages that the guest lent wait in it until there are frames to copy into them. Frames that
 * find too few pages wait here, up to a bound.
 */
import type { HostGrants } from "@xenoserver/xen";
import { Gntst } from "@xenoserver/xen/abi/grant-table.ts";
import type { BackRing } from "../ring/index.ts";
import type { Frame } from "./frames.ts";
import { ExtraType, GsoType, NetifStatus, RX_SLOT_BYTES, RxFlag } from "./protocol.ts";

const PAGE_BYTES = 4096;
/** What waits for pages: as many frames as a ring of them, and as much as some of the largest. */
const MAX_WAITING_FRAMES = 512;
const MAX_WAITING_BYTES = 1 << 20;
const ETHER_TYPE_IPV6 = 0x86dd;

export class RxQueue {
  readonly #ring: BackRing;
  readonly #grants: HostGrants;
  readonly #slot = new Uint8Array(RX_SLOT_BYTES);
  readonly #view = new DataView(this.#slot.buffer);
  #waiting: Frame[] = [];
  #waitingBytes = 0;

  constructor(ring: BackRing, grants: HostGrants) {
    this.#ring = ring;
    this.#grants = grants;
  }

  get hasRoom(): boolean {
    return this.#waiting.length < MAX_WAITING_FRAMES && this.#waitingBytes < MAX_WAITING_BYTES;
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** Takes a frame, for now or later; only to be called while there is room. */
  add(frame: Frame): void {
    this.#waiting.push(frame);
    this.#waitingBytes += frame.bytes.length;
  }

  /**
   * Gives the guest the frames that there are pages for.
   * @returns whether it wants to be notified
   * @throws  RingError  the guest's index makes no sense
   */
  flush(): boolean {
    let given = 0;
    for (const frame of this.#waiting) {
      const slots = slotsOf(frame);
      if (this.#ring.waiting < slots && !this.#ring.finalCheck(slots)) break;
      this.#give(frame);
      this.#waitingBytes -= frame.bytes.length;
      given++;
    }
    if (given === this.#waiting.length) this.#waiting = [];
    else if (given > 0) this.#waiting.splice(0, given);
    return this.#ring.push();
  }

  #give({ bytes, checksum, segmentBytes }: Frame): void {
    const checked =
      checksum === "blank"
        ? RxFlag.csum_blank | RxFlag.data_validated
        : checksum === "verified"
          ? RxFlag.data_validated
          : 0;
    let flags = checked | (segmentBytes > 0 ? RxFlag.extra_info : 0);
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const part = bytes.subarray(at, at + PAGE_BYTES);
      if (at + PAGE_BYTES < bytes.length) flags |= RxFlag.more_data;
      this.#givePart(part, flags);
      if (at === 0 && segmentBytes > 0) this.#giveGso(bytes, segmentBytes);
      flags = 0;
    }
  }

  #givePart(part: Uint8Array, flags: number): void {
    this.#ring.take(this.#slot);
    const status = this.#grants.copyTo(this.#view.getUint32(4, true), 0, part);
    // The id stays where the request had it.
    this.#view.setUint16(2, 0, true);
    this.#view.setUint16(4, flags, true);
    this.#view.setInt16(6, status === Gntst.okay ? part.length : NetifStatus.ERROR, true);
    this.#ring.put(this.#slot);
  }

  /** Takes a slot, whose page the guest gets back untouched. */
  #giveGso(bytes: Uint8Array, segmentBytes: number): void {
    this.#ring.take(this.#slot);
    const isIpv6 = ((bytes[12] << 8) | bytes[13]) === ETHER_TYPE_IPV6;
    this.#slot.fill(0);
    this.#slot[0] = ExtraType.GSO;
    this.#view.setUint16(2, segmentBytes, true);
    this.#slot[4] = isIpv6 ? GsoType.TCPV6 : GsoType.TCPV4;
    this.#ring.put(this.#slot);
  }
}

const slotsOf = ({ bytes, segmentBytes }: Frame): number =>
  Math.ceil(bytes.length / PAGE_BYTES) + (segmentBytes > 0 ? 1 : 0);
