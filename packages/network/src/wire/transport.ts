/** What TCP and UDP have in common: ports, a checksum over a pseudo-header, and where that field is. */
import { addressBytesOf } from "./address.ts";
import { put16, u16 } from "./bytes.ts";
import { addWords, complement, fold, pseudoSum } from "./checksum.ts";
import { type IpPacket, Protocol } from "./ip.ts";

export const UDP_BYTES = 8;

/** Offset of the checksum in the header of TCP and UDP; undefined for other protocols. */
export const checksumOffset = (protocol: number): number | undefined =>
  protocol === Protocol.tcp ? 16 : protocol === Protocol.udp ? 6 : undefined;

export function pseudoSumOf({ frame, addressesAt, version, protocol, payloadAt, end }: IpPacket): number {
  return pseudoSum(frame, addressesAt, addressBytesOf(version), protocol, end - payloadAt);
}

/** True if the packet's TCP, UDP or ICMPv6 checksum is right; of UDP over IPv4 also if it has none. */
export function checksumHolds(packet: IpPacket): boolean {
  const { frame, protocol, version, payloadAt, end } = packet;
  if (protocol === Protocol.udp && version === 4 && end - payloadAt >= UDP_BYTES && u16(frame, payloadAt + 6) === 0) {
    return true;
  }
  return fold(addWords(frame, payloadAt, end, pseudoSumOf(packet))) === 0xffff;
}

/** Writes the checksum of a TCP or UDP packet over whatever its field held. */
export function sealTransport(packet: IpPacket): void {
  const { frame, protocol, payloadAt, end } = packet;
  const at = payloadAt + checksumOffset(protocol)!;
  put16(frame, at, 0);
  const sum = complement(addWords(frame, payloadAt, end, pseudoSumOf(packet)));
  // UDP's 0 means that there is none.
  put16(frame, at, sum === 0 && protocol === Protocol.udp ? 0xffff : sum);
}

export interface UdpDatagram {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Uint8Array;
}

/** @returns undefined if the datagram's length contradicts the packet's */
export function parseUdp({ frame, payloadAt: at, end }: IpPacket): UdpDatagram | undefined {
  if (end - at < UDP_BYTES) return undefined;
  const lengthBytes = u16(frame, at + 4);
  if (lengthBytes < UDP_BYTES || at + lengthBytes > end) return undefined;
  return {
    sourcePort: u16(frame, at),
    destinationPort: u16(frame, at + 2),
    payload: frame.subarray(at + UDP_BYTES, at + lengthBytes),
  };
}
