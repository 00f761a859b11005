/** TCP headers (RFC 9293), with the two options that the user-mode network uses. */
import { u16, u32 } from "./bytes.ts";
import type { IpPacket } from "./ip.ts";

export const TCP_BYTES = 20;

export const TcpFlag = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32 } as const;

export interface TcpSegment {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  /** As in the header, not scaled. */
  readonly window: number;
  readonly payload: Uint8Array;
  /** Options of a SYN. */
  readonly mss?: number;
  readonly windowScale?: number;
}

/** @returns undefined if the packet is too short for the header that it announces */
export function parseTcp({ frame, payloadAt: at, end }: IpPacket): TcpSegment | undefined {
  if (end - at < TCP_BYTES) return undefined;
  const headerBytes = (frame[at + 12] >>> 4) * 4;
  if (headerBytes < TCP_BYTES || at + headerBytes > end) return undefined;
  const flags = frame[at + 13];
  return {
    sourcePort: u16(frame, at),
    destinationPort: u16(frame, at + 2),
    seq: u32(frame, at + 4),
    ack: u32(frame, at + 8),
    flags,
    window: u16(frame, at + 14),
    payload: frame.subarray(at + headerBytes, end),
    ...((flags & TcpFlag.syn) !== 0 && parseOptions(frame, at + TCP_BYTES, at + headerBytes)),
  };
}

const OPTION_END = 0;
const OPTION_PAD = 1;
const OPTION_MSS = 2;
const OPTION_WINDOW_SCALE = 3;
/** RFC 7323: larger shifts are to be read as this. */
const MAX_WINDOW_SCALE = 14;

function parseOptions(bytes: Uint8Array, from: number, to: number): { mss?: number; windowScale?: number } {
  const found: { mss?: number; windowScale?: number } = {};
  for (let at = from; at < to && bytes[at] !== OPTION_END; ) {
    if (bytes[at] === OPTION_PAD) {
      at++;
      continue;
    }
    const length = at + 1 < to ? bytes[at + 1] : 0;
    if (length < 2 || at + length > to) break;
    if (bytes[at] === OPTION_MSS && length === 4) found.mss = u16(bytes, at + 2);
    if (bytes[at] === OPTION_WINDOW_SCALE && length === 3)
      found.windowScale = Math.min(bytes[at + 2], MAX_WINDOW_SCALE);
    at += length;
  }
  return found;
}

/** The options of a SYN, a multiple of four bytes. */
export function synOptions(mss: number, windowScale: number | undefined): Uint8Array {
  const options = [OPTION_MSS, 4, mss >>> 8, mss & 0xff];
  if (windowScale !== undefined) options.push(OPTION_PAD, OPTION_WINDOW_SCALE, 3, windowScale);
  return Uint8Array.from(options);
}

/** How far `a` is ahead of `b`, −2^31 to 2^31−1. */
export const seqDistance = (a: number, b: number): number => (a - b) | 0;

export const seqAdd = (seq: number, count: number): number => (seq + count) >>> 0;
