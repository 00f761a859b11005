/**
 * The header that Linux's taps have before each frame, which says what is left to be done of it. Ten bytes, in the host's order:
 *
 *     flags u8 · segmentation u8 · header bytes u16 · bytes per segment u16 · checksummed from u16 · checksum's place from there u16
 *
 * @see include/uapi/linux/virtio_net.h, struct virtio_net_hdr
 */
import { type Frame, NO_OFFLOADS } from "@xenoserver/devices/net/frames.ts";
import { finishFor } from "../offload/finish.ts";
import { put16 } from "../wire/bytes.ts";
import { addWords, complement } from "../wire/checksum.ts";
import { EtherType, etherTypeOf } from "../wire/ethernet.ts";
import { Protocol, parseIp } from "../wire/ip.ts";
import { TCP_BYTES } from "../wire/tcp.ts";
import { checksumOffset } from "../wire/transport.ts";

export const VNET_HEADER_BYTES = 10;

export const VnetFlag = { needs_csum: 1, data_valid: 2 } as const;
export const VnetGso = { none: 0, tcpv4: 1, tcpv6: 4 } as const;

const FINISHED = new Uint8Array(VNET_HEADER_BYTES);
const TAG_AT = 12;
const TAG_BYTES = 4;

/** @returns the header for a frame; undefined if the frame contradicts itself, as when its segments are not TCP's */
export function vnetHeaderOf({ bytes, checksum, segmentBytes }: Frame): Uint8Array | undefined {
  if (checksum !== "blank" && segmentBytes === 0) return FINISHED;
  const packet = parseIp(bytes);
  if (packet === undefined || packet.fragment !== undefined) return undefined;
  const { protocol, payloadAt, end, version } = packet;
  const checksumAt = checksumOffset(protocol);
  if (checksumAt === undefined || payloadAt + checksumAt + 2 > end) return undefined;
  const header = new Uint8Array(VNET_HEADER_BYTES);
  const view = new DataView(header.buffer);
  header[0] = VnetFlag.needs_csum;
  view.setUint16(6, payloadAt, true);
  view.setUint16(8, checksumAt, true);
  if (segmentBytes === 0) return header;
  if (protocol !== Protocol.tcp || payloadAt + TCP_BYTES > end) return undefined;
  const dataAt = payloadAt + (bytes[payloadAt + 12] >>> 4) * 4;
  if (dataAt < payloadAt + TCP_BYTES || dataAt > end) return undefined;
  header[1] = version === 4 ? VnetGso.tcpv4 : VnetGso.tcpv6;
  view.setUint16(2, dataAt, true);
  view.setUint16(4, segmentBytes, true);
  return header;
}

/**
 * What a tap gave.
 * @param bytes  a header and a frame; nobody else has them
 * @returns      mostly one frame; several of one that nobody here knows how to pass on unfinished; none if it makes no sense
 */
export function framesOf(bytes: Uint8Array): readonly Frame[] {
  const frame = bytes.subarray(VNET_HEADER_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, VNET_HEADER_BYTES);
  const flags = bytes[0];
  if ((flags & VnetFlag.needs_csum) === 0) {
    return [{ bytes: frame, checksum: (flags & VnetFlag.data_valid) !== 0 ? "verified" : "full", segmentBytes: 0 }];
  }
  const segmentBytes = bytes[1] === VnetGso.none ? 0 : view.getUint16(4, true);
  const [from, at] = [view.getUint16(6, true), view.getUint16(8, true)];
  const packet = parseIp(frame);
  if (packet?.payloadAt === from && checksumOffset(packet.protocol) === at) {
    return [{ bytes: frame, checksum: "blank", segmentBytes }];
  }
  if (etherTypeOf(frame) === EtherType.vlan) return finishTagged(frame, segmentBytes);
  return segmentBytes === 0 ? fillIn(frame, from, from + at) : [];
}

/** Interfaces of guests know nothing of tags in what is unfinished. */
function finishTagged(frame: Uint8Array, segmentBytes: number): Frame[] {
  const tag = frame.subarray(TAG_AT, TAG_AT + TAG_BYTES);
  const bytes = Buffer.concat([frame.subarray(0, TAG_AT), frame.subarray(TAG_AT + TAG_BYTES)]);
  return finishFor({ bytes, checksum: "blank", segmentBytes }, NO_OFFLOADS).map((finished) => ({
    ...finished,
    bytes: Buffer.concat([finished.bytes.subarray(0, TAG_AT), tag, finished.bytes.subarray(TAG_AT)]),
  }));
}

/** A sum somewhere within, as in a tunnel's packet. */
function fillIn(frame: Uint8Array, from: number, at: number): Frame[] {
  if (at + 2 > frame.length) return [];
  put16(frame, at, complement(addWords(frame, from, frame.length)));
  return [{ bytes: frame, checksum: "full", segmentBytes: 0 }];
}
