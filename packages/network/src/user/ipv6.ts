/** The IPv6 side of a user-mode network's gateway: a router that stations find and make themselves addresses from. */
import { networkInterfaces } from "node:os";
import { AddressBlock, addressAt, type IpAddress } from "../wire/address.ts";
import { sourceOf } from "../wire/ethernet.ts";
import {
  echoReplyIpv6,
  isIcmpv6,
  isRouterSolicitation,
  neighbourAdvertisement,
  type RouterWords,
  routerAdvertisement,
  solicitedAddress,
} from "../wire/icmpv6.ts";
import type { IpPacket } from "../wire/ip.ts";
import { GATEWAY_MAC } from "./config.ts";

/** Unique local (RFC 4193): prefers IPv4 for names that have both, as there is an address translation behind either. */
export const IPV6_PREFIX = AddressBlock.parse("fd78:656e:6f00:2::/64")!;
export const IPV6_GATEWAY = IPV6_PREFIX.nth(2);
export const IPV6_DNS = IPV6_PREFIX.nth(3);
const LINK_LOCAL = AddressBlock.parse("fe80::/64")!.nth(2);
const OWN = [IPV6_GATEWAY, IPV6_DNS, LINK_LOCAL];

/** True if this host has an address from which the IPv6 world could be reached. */
export function hostHasIpv6(): boolean {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return all.some(({ family, internal, address }) => family === "IPv6" && !internal && !/^fe[89ab]/i.test(address));
}

export class Ipv6Router {
  readonly #words: RouterWords;
  readonly #send: (bytes: Uint8Array) => void;

  constructor(mtuBytes: number, send: (bytes: Uint8Array) => void) {
    this.#words = {
      mac: GATEWAY_MAC,
      linkLocal: LINK_LOCAL,
      prefix: IPV6_PREFIX.base,
      resolver: IPV6_DNS,
      mtuBytes,
    };
    this.#send = send;
  }

  /** Answers what is asked of a router. @returns whether the message was one of ICMPv6, answered or not */
  onPacket(packet: IpPacket): boolean {
    if (!isIcmpv6(packet)) return false;
    const { frame, addressesAt } = packet;
    const target = solicitedAddress(packet);
    if (target !== undefined) {
      const own = OWN.find((address) => address.every((byte, n) => byte === target[n]));
      if (own !== undefined) this.#send(neighbourAdvertisement(packet, own, GATEWAY_MAC));
    } else if (isRouterSolicitation(packet)) {
      this.#send(routerAdvertisement(this.#words, sourceOf(frame)));
    } else if (isOwn(addressAt(frame, addressesAt + 16, 6))) {
      const reply = echoReplyIpv6(packet, GATEWAY_MAC);
      if (reply !== undefined) this.#send(reply);
    }
    return true;
  }
}

const OWN_TEXTS: ReadonlySet<IpAddress> = new Set(OWN.map((address) => addressAt(address, 0, 6)));
const isOwn = (address: IpAddress): boolean => OWN_TEXTS.has(address);

/** True for a packet that a station of ours sends into the world. */
export function isFromStation({ frame, addressesAt }: IpPacket): boolean {
  return IPV6_PREFIX.holds(frame, addressesAt, 6) && !isOwn(addressAt(frame, addressesAt, 6));
}
