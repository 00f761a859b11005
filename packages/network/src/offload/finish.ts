/**
 * Finishes frames for whoever does not take unfinished ones: fills checksums in, and cuts large TCP packets into the
 * segments that they stand for.
 */
import type { Frame, Frames, Offloads } from "@xenoserver/devices/net/frames.ts";
import { put16, put32, u16, u32 } from "../wire/bytes.ts";
import { ETHERNET_BYTES } from "../wire/ethernet.ts";
import { type IpPacket, Protocol, parseIp, sealIpv4 } from "../wire/ip.ts";
import { TCP_BYTES, TcpFlag } from "../wire/tcp.ts";
import { checksumOffset, sealTransport } from "../wire/transport.ts";

/** A hostile guest could ask for a segment per byte. */
const MAX_SEGMENTS = 64;

/**
 * @returns the frames that stand for this one and that `offloads` allows: mostly itself; none if it contradicts itself, as
 *          when a frame to be cut is no TCP packet
 */
export function finishFor(frame: Frame, offloads: Offloads): readonly Frame[] {
  if (frame.checksum !== "blank" && frame.segmentBytes === 0) return [frame];
  const packet = parseIp(frame.bytes);
  if (packet === undefined || packet.fragment !== undefined) return [];
  const isIpv4 = packet.version === 4;
  if (frame.segmentBytes > 0) {
    if (packet.protocol !== Protocol.tcp) return [];
    const takes = isIpv4 ? offloads.segmentsIpv4 : offloads.segmentsIpv6;
    return takes ? [frame] : segments(packet, frame.segmentBytes);
  }
  if (isIpv4 ? offloads.blankIpv4 : offloads.blankIpv6) return [frame];
  const whole = sealed(packet);
  return whole === undefined ? [] : [whole];
}

/** Gives `to` a frame in the form that it takes. @returns false if it, or a part of it, found no room */
export function deliver(frame: Frame, to: Frames): boolean {
  for (const finished of finishFor(frame, to.offloads)) if (!to.onFrame(finished)) return false;
  return true;
}

/** A copy of a frame with its TCP or UDP checksum; undefined if it is neither, or too short to have one. */
export function sealed(packet: IpPacket): Frame | undefined {
  const at = checksumOffset(packet.protocol);
  if (at === undefined || packet.payloadAt + at + 2 > packet.end) return undefined;
  const bytes = packet.frame.slice(0, packet.end);
  sealTransport({ ...packet, frame: bytes });
  return { bytes, checksum: "verified", segmentBytes: 0 };
}

function segments(packet: IpPacket, segmentBytes: number): Frame[] {
  const { frame, payloadAt, end, version } = packet;
  if (end - payloadAt < TCP_BYTES) return [];
  const dataAt = payloadAt + (frame[payloadAt + 12] >>> 4) * 4;
  if (dataAt < payloadAt + TCP_BYTES || dataAt > end) return [];
  const count = Math.max(1, Math.ceil((end - dataAt) / segmentBytes));
  if (count > MAX_SEGMENTS) return [];
  return Array.from({ length: count }, (_, n): Frame => {
    const from = dataAt + n * segmentBytes;
    const to = Math.min(end, from + segmentBytes);
    const bytes = new Uint8Array(dataAt + to - from);
    bytes.set(frame.subarray(0, dataAt));
    bytes.set(frame.subarray(from, to), dataAt);
    setLength(bytes, version, n);
    put32(bytes, payloadAt + 4, (u32(frame, payloadAt + 4) + n * segmentBytes) >>> 0);
    // What ends a stretch goes with its last segment, what begins one with its first.
    if (n < count - 1) bytes[payloadAt + 13] &= ~(TcpFlag.fin | TcpFlag.psh);
    if (n > 0) bytes[payloadAt + 13] &= ~CWR;
    sealTransport({ ...packet, frame: bytes, end: bytes.length });
    return { bytes, checksum: "verified", segmentBytes: 0 };
  });
}

/** Congestion window reduced, RFC 3168. */
const CWR = 0x80;

function setLength(bytes: Uint8Array, version: 4 | 6, n: number): void {
  const at = ETHERNET_BYTES;
  if (version === 6) {
    put16(bytes, at + 4, bytes.length - at - 40);
    return;
  }
  put16(bytes, at + 2, bytes.length - at);
  put16(bytes, at + 4, (u16(bytes, at + 4) + n) & 0xffff);
  sealIpv4(bytes);
}
