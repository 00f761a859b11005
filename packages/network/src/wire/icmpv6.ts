/** ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861, with RFC 8106's resolvers): what a router says. */
import { put16, put32 } from "./bytes.ts";
import { addWords, complement, fold } from "./checksum.ts";
import { ETHERNET_BYTES, EtherType, type Mac, putEthernet, putMac, sourceOf } from "./ethernet.ts";
import { Unreachable } from "./icmp.ts";
import { IPV6_BYTES, type IpPacket, Protocol, putIpv6 } from "./ip.ts";
import { pseudoSumOf } from "./transport.ts";

export const Icmpv6Type = {
  unreachable: 1,
  echoRequest: 128,
  echoReply: 129,
  routerSolicitation: 133,
  routerAdvertisement: 134,
  neighbourSolicitation: 135,
  neighbourAdvertisement: 136,
} as const;

const MESSAGE_AT = ETHERNET_BYTES + IPV6_BYTES;
/** Neighbour discovery is believed only from the link itself, which this proves. */
const LINK_HOP_LIMIT = 255;
/** As much of a packet as fits the smallest MTU, less is quoted. */
const QUOTED_BYTES = 512;

const Option = { sourceMac: 1, targetMac: 2, prefix: 3, mtu: 5, resolvers: 25 } as const;

/** True for a message whose checksum is right. */
export function isIcmpv6(packet: IpPacket): boolean {
  const { frame, protocol, payloadAt, end } = packet;
  if (protocol !== Protocol.icmpv6 || end - payloadAt < 8) return false;
  return fold(addWords(frame, payloadAt, end, pseudoSumOf(packet))) === 0xffff;
}

/** The address that a neighbour solicitation asks for; undefined for any other message. */
export function solicitedAddress({ frame, payloadAt, end, hopLimit }: IpPacket): Uint8Array | undefined {
  const isSolicitation = frame[payloadAt] === Icmpv6Type.neighbourSolicitation && hopLimit === LINK_HOP_LIMIT;
  return isSolicitation && end - payloadAt >= 24 ? frame.subarray(payloadAt + 8, payloadAt + 24) : undefined;
}

export function isRouterSolicitation({ frame, payloadAt, hopLimit }: IpPacket): boolean {
  return frame[payloadAt] === Icmpv6Type.routerSolicitation && hopLimit === LINK_HOP_LIMIT;
}

/** "That address is mine, here." To a solicitation of a station without an address, it goes to all. */
export function neighbourAdvertisement(solicitation: IpPacket, target: Uint8Array, from: Mac): Uint8Array {
  const asker = sourceAddress(solicitation);
  const anonymous = asker.every((byte) => byte === 0);
  const message = newMessage(
    sourceOf(solicitation.frame),
    from,
    target,
    anonymous ? ALL_NODES : asker,
    32,
    LINK_HOP_LIMIT,
  );
  message[MESSAGE_AT] = Icmpv6Type.neighbourAdvertisement;
  message[MESSAGE_AT + 4] = anonymous ? 0xa0 : 0xe0;
  message.set(target, MESSAGE_AT + 8);
  message.set([Option.targetMac, 1], MESSAGE_AT + 24);
  putMac(message, MESSAGE_AT + 26, from);
  return seal(message);
}

export interface RouterWords {
  readonly mac: Mac;
  readonly linkLocal: Uint8Array;
  /** Stations make themselves addresses in this /64. */
  readonly prefix: Uint8Array;
  readonly resolver: Uint8Array;
  readonly mtuBytes: number;
}

const ROUTER_LIFETIME_SECONDS = 9000;
const PREFIX_LIFETIME_SECONDS = 86_400;
const ON_LINK_AND_AUTONOMOUS = 0xc0;

/** Says who the router is, what addresses there are, and who knows names. @param to  whoever asked */
export function routerAdvertisement(router: RouterWords, to: Mac): Uint8Array {
  const message = newMessage(to, router.mac, router.linkLocal, ALL_NODES, 16 + 8 + 8 + 32 + 24, LINK_HOP_LIMIT);
  message[MESSAGE_AT] = Icmpv6Type.routerAdvertisement;
  message[MESSAGE_AT + 4] = 64;
  put16(message, MESSAGE_AT + 6, ROUTER_LIFETIME_SECONDS);
  let at = MESSAGE_AT + 16;
  message.set([Option.sourceMac, 1], at);
  putMac(message, at + 2, router.mac);
  at += 8;
  message.set([Option.mtu, 1], at);
  put32(message, at + 4, router.mtuBytes);
  at += 8;
  message.set([Option.prefix, 4, 64, ON_LINK_AND_AUTONOMOUS], at);
  put32(message, at + 4, PREFIX_LIFETIME_SECONDS);
  put32(message, at + 8, PREFIX_LIFETIME_SECONDS);
  message.set(router.prefix, at + 16);
  at += 32;
  message.set([Option.resolvers, 3], at);
  put32(message, at + 4, PREFIX_LIFETIME_SECONDS);
  message.set(router.resolver, at + 8);
  return seal(message);
}

/** @returns undefined for what is no echo request */
export function echoReplyIpv6(packet: IpPacket, from: Mac): Uint8Array | undefined {
  const { frame, payloadAt, end, addressesAt } = packet;
  if (frame[payloadAt] !== Icmpv6Type.echoRequest) return undefined;
  const asked = frame.subarray(addressesAt + 16, addressesAt + 32);
  const reply = newMessage(sourceOf(frame), from, asked, sourceAddress(packet), end - payloadAt, 64);
  reply.set(frame.subarray(payloadAt, end), MESSAGE_AT);
  reply[MESSAGE_AT] = Icmpv6Type.echoReply;
  return seal(reply);
}

/** ICMPv6's codes for those of ICMP. */
const CODES: Readonly<Record<number, number>> = {
  [Unreachable.network]: 0,
  [Unreachable.host]: 3,
  [Unreachable.port]: 4,
  [Unreachable.prohibited]: 1,
};

/** As `icmpError`. */
export function unreachableIpv6(packet: IpPacket, code: number, from: Mac, as: Uint8Array): Uint8Array {
  const { frame, end } = packet;
  const quoted = frame.subarray(ETHERNET_BYTES, Math.min(end, ETHERNET_BYTES + QUOTED_BYTES));
  const message = newMessage(sourceOf(frame), from, as, sourceAddress(packet), 8 + quoted.length, 64);
  message[MESSAGE_AT] = Icmpv6Type.unreachable;
  message[MESSAGE_AT + 1] = CODES[code] ?? 3;
  message.set(quoted, MESSAGE_AT + 8);
  return seal(message);
}

const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

const sourceAddress = ({ frame, addressesAt }: IpPacket): Uint8Array => frame.subarray(addressesAt, addressesAt + 16);

function newMessage(
  to: Mac,
  from: Mac,
  source: Uint8Array,
  destination: Uint8Array,
  icmpBytes: number,
  hopLimit: number,
): Uint8Array {
  const message = new Uint8Array(MESSAGE_AT + icmpBytes);
  putEthernet(message, to, from, EtherType.ipv6);
  putIpv6(message, source, destination, Protocol.icmpv6, icmpBytes, hopLimit);
  return message;
}

function seal(message: Uint8Array): Uint8Array {
  put16(message, MESSAGE_AT + 2, 0);
  const pseudo = addWords(message, ETHERNET_BYTES + 8, MESSAGE_AT, Protocol.icmpv6 + message.length - MESSAGE_AT);
  put16(message, MESSAGE_AT + 2, complement(addWords(message, MESSAGE_AT, message.length, pseudo)));
  return message;
}
