/**
 * Between an interface and its network: lets a guest send under its own addresses only, and not in the network's name.
 * It looks at every frame that the guest sends, and at what comes for it where the guest accepts only some connections.
 */
import type { Frame, Frames, Offloads } from "@xenoserver/devices/net/frames.ts";
import { NO_OFFLOADS, plug } from "@xenoserver/devices/net/frames.ts";
import { type AddressBlock, addressAt, addressBytesOf, type IpAddress, type IpVersion } from "../wire/address.ts";
import { parseArp } from "../wire/arp.ts";
import { ETHERNET_BYTES, EtherType, etherTypeOf, type Mac, sourceOf } from "../wire/ethernet.ts";
import { type IpPacket, Protocol, parseIp } from "../wire/ip.ts";
import { parseUdp } from "../wire/transport.ts";
import { type AcceptRule, InboundRules } from "./inbound.ts";
import type { LeaseGate } from "./lease-gate.ts";

export interface FilterRules {
  /** The guest's; without, nobody else is on its network, and it may be any. */
  readonly mac?: Mac;
  /** If there are any, the guest may use no others; without, it may use any. */
  readonly addresses: readonly IpAddress[];
  /** Where the guest's packets may go whatever `deny` says, and where they may not. */
  readonly allow: readonly AddressBlock[];
  readonly deny: readonly AddressBlock[];
  /** What others may begin with the guest; without, anything. */
  readonly accept?: readonly AcceptRule[];
  /** For a copy of another guest. */
  readonly gate?: LeaseGate;
}

export class Filter {
  /** To be plugged into the interface, and into the network. */
  readonly inside: Frames;
  readonly outside: Frames;
  readonly #rules: FilterRules;
  readonly #inbound: InboundRules | undefined;
  #dropped = 0;

  constructor(rules: FilterRules) {
    this.#rules = rules;
    this.#inbound = rules.accept && new InboundRules(rules.accept);
    this.inside = new Half(
      () => this.outside.peer,
      ({ bytes }) => {
        // The gate sees also what the rest does not let through.
        const passes = (rules.gate?.passesOut(bytes) ?? true) && this.passes(bytes);
        if (!passes) this.#dropped++;
        return passes;
      },
    );
    this.outside = new Half(
      () => this.inside.peer,
      ({ bytes }) => {
        const packet = this.#inbound === undefined ? undefined : parseIp(bytes);
        const passes = (rules.gate?.passesIn(bytes) ?? true) && (packet === undefined || this.#inbound!.passes(packet));
        if (!passes) this.#dropped++;
        return passes;
      },
    );
  }

  /** Puts itself between two ends. */
  join(device: Frames, network: Frames): void {
    plug(device, this.inside);
    plug(this.outside, network);
  }

  /** Frames that went no further, of both directions. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Whether the guest may send these bytes. */
  passes(bytes: Uint8Array): boolean {
    if (bytes.length < ETHERNET_BYTES) return false;
    const { mac = sourceOf(bytes) } = this.#rules;
    if (sourceOf(bytes) !== mac) return false;
    switch (etherTypeOf(bytes)) {
      case EtherType.arp:
        return this.#arpPasses(bytes);
      case EtherType.ipv4:
      case EtherType.ipv6: {
        const packet = parseIp(bytes);
        return packet !== undefined && this.#packetPasses(packet);
      }
      default:
        // Other protocols, tags among them, could carry anybody's addresses.
        return this.#rules.addresses.length === 0;
    }
  }

  #arpPasses(bytes: Uint8Array): boolean {
    const arp = parseArp(bytes);
    if (arp === undefined || arp.senderMac !== sourceOf(bytes)) return false;
    return arp.senderIp === "0.0.0.0" || this.#owns(arp.senderIp);
  }

  #packetPasses(packet: IpPacket): boolean {
    const { frame, addressesAt, version } = packet;
    const source = addressAt(frame, addressesAt, version);
    if (!this.#owns(source) && !this.#isBeginning(source, packet)) return false;
    if (isServersWord(packet) || !this.#mayReach(packet)) return false;
    this.#inbound?.onSent(packet);
    return true;
  }

  #owns(address: IpAddress): boolean {
    return this.#rules.addresses.length === 0 || this.#rules.addresses.includes(address);
  }

  /** What a station says before it has an address, and on its own link. */
  #isBeginning(source: IpAddress, packet: IpPacket): boolean {
    if (packet.version === 6) return source === "::" || /^fe[89ab]/.test(source);
    const datagram = source === "0.0.0.0" && packet.protocol === Protocol.udp ? parseUdp(packet) : undefined;
    return datagram?.sourcePort === 68 && datagram.destinationPort === 67;
  }

  #mayReach({ frame, addressesAt, version }: IpPacket): boolean {
    const { allow, deny } = this.#rules;
    if (deny.length === 0) return true;
    const at = addressesAt + addressBytesOf(version);
    const within = (block: AddressBlock): boolean => block.holds(frame, at, version as IpVersion);
    return allow.some(within) || !deny.some(within);
  }
}

const ICMPV6_ROUTER_ADVERTISEMENT = 134;
const ICMPV6_REDIRECT = 137;

/** What only a network's servers say: DHCP's answers, routers' advertisements and redirects. */
function isServersWord(packet: IpPacket): boolean {
  const { frame, protocol, payloadAt, end, fragment } = packet;
  // A later fragment has no header to look at; without its first, nobody can make anything of it.
  if (fragment !== undefined && fragment.offsetBytes > 0) return false;
  if (protocol === Protocol.icmpv6 && payloadAt < end) {
    return frame[payloadAt] === ICMPV6_ROUTER_ADVERTISEMENT || frame[payloadAt] === ICMPV6_REDIRECT;
  }
  if (protocol !== Protocol.udp || end - payloadAt < 4) return false;
  const [source, destination] = [
    frame[payloadAt] * 256 + frame[payloadAt + 1],
    frame[payloadAt + 2] * 256 + frame[payloadAt + 3],
  ];
  return (source === 67 && destination === 68) || (source === 547 && destination === 546);
}

/** One side: what comes in is looked at, and goes to whom the other side is plugged into. */
class Half implements Frames {
  peer: Frames | undefined;
  readonly #next: () => Frames | undefined;
  readonly #passes: (frame: Frame) => boolean;

  constructor(next: () => Frames | undefined, passes: (frame: Frame) => boolean) {
    this.#next = next;
    this.#passes = passes;
  }

  get offloads(): Offloads {
    return this.#next()?.offloads ?? NO_OFFLOADS;
  }

  onFrame(frame: Frame): boolean {
    if (!this.#passes(frame)) return true;
    return this.#next()?.onFrame(frame) ?? true;
  }

  onRoom(): void {
    this.#next()?.onRoom();
  }
}
