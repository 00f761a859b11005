/** ICMP messages (RFC 792): echoes, and why a packet came to nothing. */
import { put16 } from "./bytes.ts";
import { addWords, complement, fold } from "./checksum.ts";
import { ETHERNET_BYTES, EtherType, type Mac, putEthernet, sourceOf } from "./ethernet.ts";
import { IPV4_BYTES, type IpPacket, Protocol, putIpv4 } from "./ip.ts";

export const IcmpType = { echoReply: 0, unreachable: 3, echoRequest: 8, timeExceeded: 11 } as const;

/** Codes of `unreachable`. */
export const Unreachable = { network: 0, host: 1, port: 3, prohibited: 13 } as const;

const ICMP_BYTES = 8;
/** Of the packet that a message is about, RFC 1812 lets a message have more than its first eight bytes. */
const QUOTED_BYTES = 64;

/** @returns the reply to an echo request; undefined for anything else and for a wrong checksum */
export function echoReply(packet: IpPacket, from: Mac): Uint8Array | undefined {
  const { frame, payloadAt, end } = packet;
  if (end - payloadAt < ICMP_BYTES || frame[payloadAt] !== IcmpType.echoRequest) return undefined;
  if (fold(addWords(frame, payloadAt, end)) !== 0xffff) return undefined;
  const [source, destination] = addresses(packet);
  const reply = newMessage(sourceOf(frame), from, destination, source, end - payloadAt);
  const at = ETHERNET_BYTES + IPV4_BYTES;
  reply.set(frame.subarray(payloadAt, end), at);
  reply[at] = IcmpType.echoReply;
  return seal(reply);
}

/**
 * Tells the sender of a packet that it came to nothing.
 * @param as  the address that says so
 */
export function icmpError(packet: IpPacket, type: number, code: number, from: Mac, as: Uint8Array): Uint8Array {
  const { frame, end } = packet;
  const quoted = frame.subarray(ETHERNET_BYTES, Math.min(end, ETHERNET_BYTES + QUOTED_BYTES));
  const [source] = addresses(packet);
  const message = newMessage(sourceOf(frame), from, as, source, ICMP_BYTES + quoted.length);
  const at = ETHERNET_BYTES + IPV4_BYTES;
  message[at] = type;
  message[at + 1] = code;
  message.set(quoted, at + ICMP_BYTES);
  return seal(message);
}

const addresses = ({ frame, addressesAt }: IpPacket): [source: Uint8Array, destination: Uint8Array] => [
  frame.subarray(addressesAt, addressesAt + 4),
  frame.subarray(addressesAt + 4, addressesAt + 8),
];

function newMessage(to: Mac, from: Mac, source: Uint8Array, destination: Uint8Array, icmpBytes: number): Uint8Array {
  const message = new Uint8Array(ETHERNET_BYTES + IPV4_BYTES + icmpBytes);
  putEthernet(message, to, from, EtherType.ipv4);
  putIpv4(message, source, destination, Protocol.icmp, IPV4_BYTES + icmpBytes);
  return message;
}

function seal(message: Uint8Array): Uint8Array {
  const at = ETHERNET_BYTES + IPV4_BYTES;
  put16(message, at + 2, 0);
  put16(message, at + 2, complement(addWords(message, at, message.length)));
  return message;
}
