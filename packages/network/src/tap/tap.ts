/**
 * A tap of the host's kernel: what the guest sends the host receives by an interface of its own, and the other way round. In a bridge of
 * the host, the guest is a station of the host's network.
 */
import { closeSync, writevSync } from "node:fs";
import { constants as osConstants } from "node:os";
import { ALL_OFFLOADS, type Frame, type Frames, type Offloads, unplug } from "@xenoserver/devices/net/frames.ts";
import { finishFor } from "../offload/finish.ts";
import { put16 } from "../wire/bytes.ts";
import { BROADCAST, ETHERNET_BYTES, EtherType, type Mac, putEthernet, putMac } from "../wire/ethernet.ts";
import { hostCalls } from "./calls.ts";
import { openTap, type TapConfig } from "./interface.ts";
import { whenReadable } from "./readiness.ts";
import { framesOf, VNET_HEADER_BYTES, vnetHeaderOf } from "./vnet-header.ts";

/** The longest packet, its header, and some room for tags. */
const BUFFER_BYTES = VNET_HEADER_BYTES + ETHERNET_BYTES + 65_535 + 64;
/** After so many frames, others have their turn. */
const MAX_BATCH = 64;
/** Smaller frames are cut out of a shared block. */
const OWN_BLOCK_FROM_BYTES = 2048;

export interface TapOptions extends TapConfig {
  /** The guest's. */
  readonly mac: Mac;
  readonly log: (message: string) => void;
}

/** The kernel's end. */
export interface TapLink {
  /** @returns bytes of a header and a frame; 0 if there is none, undefined if there will never be */
  read(into: SharedArrayBuffer): number | undefined;
  /** @throws Error  the kernel does not take it */
  write(header: Uint8Array, bytes: Uint8Array): void;
  close(): void;
}

/**
 * Opens a tap.
 * @throws Error  it cannot be had; a sentence
 */
export function openTapNetwork(options: TapOptions): Tap {
  const { fd, name } = openTap(options);
  const calls = hostCalls()!;
  const { EAGAIN, EINTR } = osConstants.errno;
  const tap: Tap = new Tap(
    {
      read: (into) => {
        const count = calls.read(fd, into);
        if (count >= 0) return count;
        const errno = calls.errno();
        return errno === EAGAIN || errno === EINTR ? 0 : undefined;
      },
      write: (header, bytes) => void writevSync(fd, [header, bytes]),
      close: () => {
        closeSync(fd);
        forget();
      },
    },
    name,
    options,
  );
  let forget = (): void => {};
  try {
    forget = whenReadable(calls, fd, () => tap.look());
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return tap;
}

export class Tap implements Frames {
  readonly offloads: Offloads = ALL_OFFLOADS;
  peer: Frames | undefined;
  /** Of the interface on the host. */
  readonly name: string;
  readonly #link: TapLink;
  readonly #options: Pick<TapOptions, "mac" | "log">;
  readonly #buffer = new SharedArrayBuffer(BUFFER_BYTES);
  /** Read, and refused by the peer, who tells when there is room. */
  #waiting: Frame[] = [];
  /** What comes before the guest listens is not for it. */
  #hasGuest = false;
  #again: NodeJS.Immediate | undefined;
  #complained = false;
  #closed = false;

  constructor(link: TapLink, name: string, options: Pick<TapOptions, "mac" | "log">) {
    this.#link = link;
    this.name = name;
    this.#options = options;
  }

  /** A packet that contradicts itself, or that the kernel does not take, is lost. */
  onFrame(frame: Frame): boolean {
    if (this.#closed) return true;
    const header = vnetHeaderOf(frame);
    if (header === undefined) return true;
    try {
      this.#link.write(header, frame.bytes);
    } catch (error) {
      this.#complain(`does not take a frame: ${(error as Error).message}`);
    }
    return true;
  }

  /** Reads what is there, as far as the peer has room. */
  look(): void {
    for (let batch = 0; this.#waiting.length === 0 && !this.#closed; batch++) {
      if (batch === MAX_BATCH) {
        this.#again ??= setImmediate(() => {
          this.#again = undefined;
          this.look();
        });
        return;
      }
      const count = this.#link.read(this.#buffer);
      if (count === undefined) this.#complain("is gone");
      if (count === undefined || count === 0) return;
      if (count > VNET_HEADER_BYTES + ETHERNET_BYTES && this.#hasGuest) this.#deliver(count);
    }
  }

  #deliver(count: number): void {
    const { peer } = this;
    if (peer === undefined || count > BUFFER_BYTES) return;
    const bytes = count < OWN_BLOCK_FROM_BYTES ? Buffer.allocUnsafe(count) : Buffer.allocUnsafeSlow(count);
    bytes.set(new Uint8Array(this.#buffer, 0, count));
    this.#give(framesOf(bytes).flatMap((frame) => finishFor(frame, peer.offloads)));
  }

  #give(frames: Frame[]): void {
    let given = 0;
    while (given < frames.length && this.peer?.onFrame(frames[given]) === true) given++;
    this.#waiting = frames.slice(given);
  }

  onRoom(): void {
    if (this.#closed) return;
    if (!this.#hasGuest) {
      this.look();
      this.#hasGuest = true;
      this.onFrame({ bytes: announcement(this.#options.mac), checksum: "full", segmentBytes: 0 });
    }
    this.#give(this.#waiting);
    this.look();
  }

  onUnplug(): void {
    this.close();
  }

  /** The interface is gone afterwards, unless it was there before. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearImmediate(this.#again);
    this.#link.close();
    unplug(this);
  }

  /** Once: a guest can send as many as it likes. */
  #complain(problem: string): void {
    if (this.#complained) return;
    this.#complained = true;
    this.#options.log(`tap ${this.name} ${problem}`);
  }
}

const MIN_FRAME_BYTES = 60;
const RARP = 0x8035;
const RARP_REQUEST = 3;

/** Lets the network's switches know where the guest is, which may have come from elsewhere and say nothing itself (RFC 903; as QEMU does it). */
function announcement(mac: Mac): Uint8Array {
  const bytes = new Uint8Array(MIN_FRAME_BYTES);
  putEthernet(bytes, BROADCAST, mac, RARP);
  const at = ETHERNET_BYTES;
  put16(bytes, at, 1);
  put16(bytes, at + 2, EtherType.ipv4);
  put16(bytes, at + 4, 0x0604);
  put16(bytes, at + 6, RARP_REQUEST);
  putMac(bytes, at + 8, mac);
  putMac(bytes, at + 18, mac);
  return bytes;
}
