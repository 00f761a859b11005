/** Puts IPv4 fragments together: few packets at a time, not for long, and none that overlap (RFC 5722's rule for IPv6). */
import { put16 } from "../wire/bytes.ts";
import { ETHERNET_BYTES } from "../wire/ethernet.ts";
import { type IpPacket, parseIp, sealIpv4 } from "../wire/ip.ts";

const MAX_PACKETS = 16;
const MAX_FRAGMENTS = 64;
const MAX_IP_BYTES = 65535;
const TIMEOUT_MS = 15_000;

interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

interface Partial {
  readonly begunMs: number;
  readonly pieces: Piece[];
  /** Ethernet and IP header of the first fragment. */
  header: Uint8Array | undefined;
  lengthBytes: number | undefined;
  haveBytes: number;
}

export class Reassembly {
  /** In the order in which they were begun. */
  readonly #partials = new Map<string, Partial>();

  /** @returns the whole packet when this was its last missing fragment */
  add(packet: IpPacket): IpPacket | undefined {
    const { frame, payloadAt, end } = packet;
    const { id, offsetBytes, more } = packet.fragment!;
    const key = `${id} ${packet.protocol} ${frame.subarray(packet.addressesAt, packet.addressesAt + 8).join(".")}`;
    this.#forgetOld();
    let partial = this.#partials.get(key);
    if (partial === undefined) {
      if (this.#partials.size >= MAX_PACKETS) this.#partials.delete(this.#partials.keys().next().value!);
      partial = { begunMs: performance.now(), pieces: [], header: undefined, lengthBytes: undefined, haveBytes: 0 };
      this.#partials.set(key, partial);
    }
    const bytes = frame.slice(payloadAt, end);
    if (!accept(partial, { offset: offsetBytes, bytes }, more)) {
      this.#partials.delete(key);
      return undefined;
    }
    if (offsetBytes === 0) partial.header = frame.slice(0, payloadAt);
    if (partial.header === undefined || partial.haveBytes !== partial.lengthBytes) return undefined;
    this.#partials.delete(key);
    return join(partial.header, partial.pieces, partial.lengthBytes);
  }

  #forgetOld(): void {
    const now = performance.now();
    for (const [key, { begunMs }] of this.#partials) {
      if (now - begunMs < TIMEOUT_MS) return;
      this.#partials.delete(key);
    }
  }
}

/** Adds a piece; false if it contradicts those that are there. */
function accept(partial: Partial, piece: Piece, more: boolean): boolean {
  const end = piece.offset + piece.bytes.length;
  if (piece.bytes.length === 0 || (more && piece.bytes.length % 8 !== 0)) return false;
  if (end > MAX_IP_BYTES - 60 || partial.pieces.length >= MAX_FRAGMENTS) return false;
  if (partial.pieces.some((other) => piece.offset < other.offset + other.bytes.length && other.offset < end))
    return false;
  if (!more && partial.lengthBytes !== undefined) return false;
  if (!more) partial.lengthBytes = end;
  partial.pieces.push(piece);
  partial.haveBytes += piece.bytes.length;
  return (
    partial.lengthBytes === undefined || partial.pieces.every((p) => p.offset + p.bytes.length <= partial.lengthBytes!)
  );
}

function join(header: Uint8Array, pieces: readonly Piece[], lengthBytes: number): IpPacket | undefined {
  const whole = new Uint8Array(header.length + lengthBytes);
  whole.set(header);
  for (const { offset, bytes } of pieces) whole.set(bytes, header.length + offset);
  put16(whole, ETHERNET_BYTES + 2, whole.length - ETHERNET_BYTES);
  put16(whole, ETHERNET_BYTES + 6, 0);
  sealIpv4(whole);
  return parseIp(whole);
}
