/**
 * Keeps a copy of a guest off a network that others are on until that network's DHCP server has given it an address. It goes on with those of
 * the domain that it was copied from, and what it sent under them, an ARP question or the next segment of a connection, would take what is
 * the other's to it.
 */
import { addressAt, type IpAddress } from "../wire/address.ts";
import { parseArp } from "../wire/arp.ts";
import { DhcpType, parseDhcp, parseDhcpLease } from "../wire/dhcp.ts";
import { EtherType, etherTypeOf, type Mac, sourceOf } from "../wire/ethernet.ts";
import { Protocol, parseIp } from "../wire/ip.ts";
import { parseUdp, type UdpDatagram } from "../wire/transport.ts";

const [SERVER_PORT, CLIENT_PORT] = [67, 68];
/** Of what it uses while the gate is closed; a guest has no more addresses than that which matter. */
const MAX_FORMER = 64;

export class LeaseGate {
  readonly #mac: Mac;
  /** Addresses of the other domain. */
  readonly #former = new Set<IpAddress>();
  #isOpen = false;

  /** @param mac  the copy's own */
  constructor(mac: Mac) {
    this.#mac = mac;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Whether the guest may send a frame: before it has a lease, a question for one. */
  passesOut(frame: Uint8Array): boolean {
    if (this.#isOpen) return true;
    this.#noteSource(frame);
    const datagram = sourceOf(frame) === this.#mac ? datagramOf(frame, CLIENT_PORT, SERVER_PORT) : undefined;
    const request = datagram && parseDhcp(datagram.payload);
    if (request === undefined || request.mac !== this.#mac || request.clientIp !== "0.0.0.0") return false;
    if (request.type === DhcpType.discover) return true;
    if (request.type !== DhcpType.request || request.requestedIp === undefined) return false;
    // Nobody offered it: it is the one that was had before. The server may refuse it.
    if (request.serverId === undefined) this.#note(request.requestedIp);
    return true;
  }

  /** Whether the guest is to hear a frame: before it has a lease, what a DHCP server says. */
  passesIn(frame: Uint8Array): boolean {
    if (this.#isOpen) return true;
    const datagram = datagramOf(frame, SERVER_PORT, CLIENT_PORT);
    if (datagram === undefined) return false;
    const lease = parseDhcpLease(datagram.payload);
    if (lease === undefined || lease.mac !== this.#mac) return true;
    // A server that knows its clients by what copies have in common gives this one the other's.
    if (this.#former.has(lease.address)) return false;
    this.#isOpen = true;
    return true;
  }

  #noteSource(frame: Uint8Array): void {
    const type = etherTypeOf(frame);
    const packet = type === EtherType.ipv4 ? parseIp(frame) : undefined;
    if (packet !== undefined) this.#note(addressAt(packet.frame, packet.addressesAt, 4));
    const arp = type === EtherType.arp ? parseArp(frame) : undefined;
    if (arp !== undefined) this.#note(arp.senderIp);
  }

  #note(address: IpAddress): void {
    if (address !== "0.0.0.0" && this.#former.size < MAX_FORMER) this.#former.add(address);
  }
}

function datagramOf(frame: Uint8Array, sourcePort: number, destinationPort: number): UdpDatagram | undefined {
  const packet = etherTypeOf(frame) === EtherType.ipv4 ? parseIp(frame) : undefined;
  if (packet?.protocol !== Protocol.udp || packet.fragment !== undefined) return undefined;
  const datagram = parseUdp(packet);
  return datagram?.sourcePort === sourcePort && datagram.destinationPort === destinationPort ? datagram : undefined;
}
