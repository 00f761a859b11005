/** IPv4 (RFC 791) and IPv6 (RFC 8200) headers, in one view. */
import type { IpVersion } from "./address.ts";
import { put16, u16 } from "./bytes.ts";
import { addWords, complement, fold } from "./checksum.ts";
import { ETHERNET_BYTES, EtherType, etherTypeOf } from "./ethernet.ts";

export const Protocol = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;

export const IPV4_BYTES = 20;
export const IPV6_BYTES = 40;

/** Where things are in a frame that holds an IP packet. All of it lies within the frame. */
export interface IpPacket {
  readonly frame: Uint8Array;
  readonly version: IpVersion;
  /** The source address, the destination's right behind it. */
  readonly addressesAt: number;
  readonly protocol: number;
  readonly hopLimit: number;
  readonly payloadAt: number;
  /** Behind the packet's last byte; the frame may be longer. */
  readonly end: number;
  /** Of a packet that is a part of one. */
  readonly fragment?: Fragment;
}

export interface Fragment {
  readonly id: number;
  readonly offsetBytes: number;
  readonly more: boolean;
}

/** @returns undefined if the frame holds no IP packet, or one whose header contradicts itself or its checksum */
export function parseIp(frame: Uint8Array): IpPacket | undefined {
  if (frame.length < ETHERNET_BYTES) return undefined;
  const type = etherTypeOf(frame);
  if (type === EtherType.ipv4) return parseIpv4(frame);
  return type === EtherType.ipv6 ? parseIpv6(frame) : undefined;
}

function parseIpv4(frame: Uint8Array): IpPacket | undefined {
  const at = ETHERNET_BYTES;
  if (frame.length < at + IPV4_BYTES || frame[at] >>> 4 !== 4) return undefined;
  const headerBytes = (frame[at] & 15) * 4;
  const totalBytes = u16(frame, at + 2);
  if (headerBytes < IPV4_BYTES || totalBytes < headerBytes || at + totalBytes > frame.length) return undefined;
  if (fold(addWords(frame, at, at + headerBytes)) !== 0xffff) return undefined;
  const offsetAndFlags = u16(frame, at + 6);
  return {
    frame,
    version: 4,
    addressesAt: at + 12,
    protocol: frame[at + 9],
    hopLimit: frame[at + 8],
    payloadAt: at + headerBytes,
    end: at + totalBytes,
    ...((offsetAndFlags & 0x3fff) !== 0 && {
      fragment: {
        id: u16(frame, at + 4),
        offsetBytes: (offsetAndFlags & 0x1fff) * 8,
        more: (offsetAndFlags & 0x2000) !== 0,
      },
    }),
  };
}

/** Extension headers that are stepped over: hop-by-hop and destination options. Fragments are not put together. */
const OPTION_HEADERS: ReadonlySet<number> = new Set([0, 60]);

function parseIpv6(frame: Uint8Array): IpPacket | undefined {
  const at = ETHERNET_BYTES;
  if (frame.length < at + IPV6_BYTES || frame[at] >>> 4 !== 6) return undefined;
  const end = at + IPV6_BYTES + u16(frame, at + 4);
  if (end > frame.length) return undefined;
  let protocol = frame[at + 6];
  let payloadAt = at + IPV6_BYTES;
  while (OPTION_HEADERS.has(protocol)) {
    if (payloadAt + 8 > end) return undefined;
    protocol = frame[payloadAt];
    payloadAt += 8 + frame[payloadAt + 1] * 8;
  }
  if (payloadAt > end) return undefined;
  return { frame, version: 6, addressesAt: at + 8, protocol, hopLimit: frame[at + 7], payloadAt, end };
}

/** Writes an IPv4 header without options at byte 14; the checksum too. */
export function putIpv4(
  frame: Uint8Array,
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  totalBytes: number,
  id = 0,
): void {
  const at = ETHERNET_BYTES;
  frame[at] = 0x45;
  frame[at + 1] = 0;
  put16(frame, at + 2, totalBytes);
  put16(frame, at + 4, id);
  put16(frame, at + 6, 0x4000);
  frame[at + 8] = 64;
  frame[at + 9] = protocol;
  frame.set(source, at + 12);
  frame.set(destination, at + 16);
  sealIpv4(frame);
}

/** Writes the header checksum of the IPv4 packet at byte 14. */
export function sealIpv4(frame: Uint8Array): void {
  const at = ETHERNET_BYTES;
  put16(frame, at + 10, 0);
  put16(frame, at + 10, complement(addWords(frame, at, at + (frame[at] & 15) * 4)));
}

/** Writes an IPv6 header at byte 14. */
export function putIpv6(
  frame: Uint8Array,
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  payloadBytes: number,
  hopLimit = 64,
): void {
  const at = ETHERNET_BYTES;
  frame.fill(0, at, at + 4);
  frame[at] = 0x60;
  put16(frame, at + 4, payloadBytes);
  frame[at + 6] = protocol;
  frame[at + 7] = hopLimit;
  frame.set(source, at + 8);
  frame.set(destination, at + 24);
}
