/**
 * A network of its own for one guest, or for those of one switch: a gateway that hands out addresses, answers for names,
 * and carries TCP and UDP to sockets of this process. It needs no privilege of any kind.
 */
import { getServers } from "node:dns";
import { ALL_OFFLOADS, type Frame, type Frames, NO_OFFLOADS, type Offloads } from "@xenoserver/devices/net/frames.ts";
import { addressAt } from "../wire/address.ts";
import { ArpOperation, buildArp, parseArp } from "../wire/arp.ts";
import {
  BROADCAST,
  destinationOf,
  ETHERNET_BYTES,
  EtherType,
  etherTypeOf,
  isGroup,
  isStation,
  sourceOf,
} from "../wire/ethernet.ts";
import { FlowHeader } from "../wire/flow-header.ts";
import { echoReply, IcmpType, icmpError } from "../wire/icmp.ts";
import { unreachableIpv6 } from "../wire/icmpv6.ts";
import { type IpPacket, Protocol, parseIp } from "../wire/ip.ts";
import { checksumHolds, parseUdp } from "../wire/transport.ts";
import {
  DEFAULT_MTU_BYTES,
  GATEWAY_MAC,
  planSubnet,
  planText,
  type SubnetPlan,
  type UserNetworkConfig,
} from "./config.ts";
import type { UserContext } from "./context.ts";
import { DhcpServer } from "./dhcp/server.ts";
import { Egress } from "./egress.ts";
import { type OpenForward, openForward } from "./forward.ts";
import { hostHasIpv6, IPV6_DNS, IPV6_GATEWAY, IPV6_PREFIX, Ipv6Router, isFromStation } from "./ipv6.ts";
import { Neighbours } from "./neighbours.ts";
import { Reassembly } from "./reassembly.ts";
import { TcpNat } from "./tcp/nat.ts";
import { UdpNat } from "./udp/nat.ts";
import { sendDatagram } from "./udp/send.ts";

const DHCP_SERVER_PORT = 67;
const DHCP_CLIENT_PORT = 68;
const BROADCAST_IP = Uint8Array.of(255, 255, 255, 255);

export class UserNetwork implements Frames {
  readonly offloads: Offloads = ALL_OFFLOADS;
  peer: Frames | undefined;
  readonly #plan: SubnetPlan;
  readonly #gateway: string;
  readonly #dns: string;
  readonly #dhcp: DhcpServer;
  readonly #neighbours = new Neighbours((address) => this.#askFor(address));
  readonly #reassembly = new Reassembly();
  readonly #context: UserContext;
  readonly #tcp: TcpNat;
  readonly #udp: UdpNat;
  readonly #router: Ipv6Router | undefined;
  #forwards: OpenForward[] = [];

  /** @throws RangeError  the configuration's subnet is too small or too large */
  constructor(config: UserNetworkConfig = {}) {
    this.#plan = planSubnet(config.subnet);
    const { gateway, dns } = planText(this.#plan);
    this.#gateway = gateway;
    this.#dns = dns;
    const mtuBytes = config.mtuBytes ?? DEFAULT_MTU_BYTES;
    for (const [mac, address] of config.fixed ?? []) {
      if (!this.#plan.subnet.holdsAddress(address) || address === gateway || address === dns) {
        throw new RangeError(
          `the guest's address is ${address}, expected one of ${this.#plan.subnet} that is not ours`,
        );
      }
      // A guest that sets its address itself may have sent nothing when the first connection comes for it.
      this.#neighbours.learn(address, mac);
    }
    this.#dhcp = new DhcpServer({ ...this.#plan, mtuBytes, ...(config.fixed && { fixed: config.fixed }) });
    const own = {
      gateway: [gateway, addressAt(IPV6_GATEWAY, 0, 6)],
      dns: [dns, addressAt(IPV6_DNS, 0, 6)],
      blocks: [this.#plan.subnet, IPV6_PREFIX],
    };
    this.#context = {
      mac: GATEWAY_MAC,
      mtuBytes,
      egress: new Egress({ host: false, allow: [], deny: [], ...config.egress }, own),
      resolvers: () => config.resolvers ?? getServers(),
      offloads: () => this.peer?.offloads ?? NO_OFFLOADS,
      send: (frame) => this.peer?.onFrame(frame) ?? false,
      reject: (packet, code) => this.#reject(packet, code),
      findMac: (address) => this.#neighbours.find(address),
      log: config.log ?? (() => {}),
    };
    this.#tcp = new TcpNat(this.#context);
    this.#udp = new UdpNat(this.#context);
    if (config.ipv6 ?? hostHasIpv6()) this.#router = new Ipv6Router(mtuBytes, (bytes) => this.#sendWhole(bytes));
  }

  /**
   * Makes a network and listens at the ports that it forwards.
   * @throws Error  a port cannot be listened at; nothing stays open
   */
  static async open(config: UserNetworkConfig = {}): Promise<UserNetwork> {
    const network = new UserNetwork(config);
    const context = {
      user: network.#context,
      tcp: network.#tcp,
      subnet: network.#plan.subnet,
      gateway: network.#plan.gateway,
      firstGuest: network.#plan.subnet.nth(network.#plan.firstHost),
    };
    try {
      for (const forward of config.forwards ?? []) network.#forwards.push(await openForward(forward, context));
    } catch (error) {
      network.close();
      throw error;
    }
    return network;
  }

  /** Ports of the host that are listened at. */
  get forwards(): readonly OpenForward[] {
    return this.#forwards;
  }

  onFrame(frame: Frame): boolean {
    const { bytes } = frame;
    if (bytes.length < ETHERNET_BYTES || !isStation(sourceOf(bytes))) return true;
    const destination = destinationOf(bytes);
    if (destination !== GATEWAY_MAC && !isGroup(destination)) return true;
    const type = etherTypeOf(bytes);
    if (type === EtherType.arp) this.#onArp(bytes);
    else if (type === EtherType.ipv4) this.#onIpv4(frame);
    else if (type === EtherType.ipv6) this.#onIpv6(frame);
    return true;
  }

  #onIpv6(frame: Frame): void {
    const packet = this.#router === undefined ? undefined : parseIp(frame.bytes);
    if (packet === undefined || this.#router!.onPacket(packet)) return;
    if (destinationOf(frame.bytes) !== GATEWAY_MAC || !isFromStation(packet)) return;
    const { protocol } = packet;
    if (protocol !== Protocol.tcp && protocol !== Protocol.udp) return;
    if (frame.checksum === "full" && !checksumHolds(packet)) return;
    if (protocol === Protocol.tcp) this.#tcp.onPacket(packet);
    else this.#udp.onPacket(packet);
  }

  #onArp(bytes: Uint8Array): void {
    const arp = parseArp(bytes);
    if (arp === undefined) return;
    this.#learn(arp.senderIp, arp.senderMac);
    const asksUs = arp.targetIp === this.#gateway || arp.targetIp === this.#dns;
    if (arp.operation !== ArpOperation.request || !asksUs) return;
    const { senderMac, senderIp, targetIp } = arp;
    this.#sendWhole(
      buildArp(senderMac, {
        operation: ArpOperation.reply,
        senderMac: GATEWAY_MAC,
        senderIp: targetIp,
        targetMac: senderMac,
        targetIp: senderIp,
      }),
    );
  }

  #askFor(address: string): void {
    this.#sendWhole(
      buildArp(BROADCAST, {
        operation: ArpOperation.request,
        senderMac: GATEWAY_MAC,
        senderIp: this.#gateway,
        targetMac: 0,
        targetIp: address,
      }),
    );
  }

  #learn(address: string, mac: number): void {
    const ours = address === this.#gateway || address === this.#dns;
    if (!ours && isStation(mac) && this.#plan.subnet.holdsAddress(address)) this.#neighbours.learn(address, mac);
  }

  #onIpv4(frame: Frame): void {
    let packet = parseIp(frame.bytes);
    if (packet === undefined) return;
    let checked = frame.checksum !== "full";
    if (packet.fragment !== undefined) {
      packet = this.#reassembly.add(packet);
      if (packet === undefined) return;
      checked = false;
    }
    const { protocol } = packet;
    if ((protocol === Protocol.tcp || protocol === Protocol.udp) && !checked && !checksumHolds(packet)) return;
    if (protocol === Protocol.udp && this.#isDhcp(packet)) this.#onDhcp(packet);
    else if (this.#isFromGuest(packet)) this.#onGuestPacket(packet);
  }

  /** Sources outside of the subnet, ours and none at all are nobody's. */
  #isFromGuest({ frame, addressesAt: at }: IpPacket): boolean {
    if (destinationOf(frame) !== GATEWAY_MAC || !this.#plan.subnet.holds(frame, at, 4)) return false;
    const source = addressAt(frame, at, 4);
    if (source === this.#gateway || source === this.#dns) return false;
    this.#neighbours.learn(source, sourceOf(frame));
    return true;
  }

  #onGuestPacket(packet: IpPacket): void {
    const { protocol } = packet;
    if (protocol === Protocol.tcp) this.#tcp.onPacket(packet);
    else if (protocol === Protocol.udp) {
      if (!this.#forwards.some((forward) => forward.onPacket?.(packet))) this.#udp.onPacket(packet);
    } else if (protocol === Protocol.icmp) this.#onIcmp(packet);
    else this.#reject(packet, 2);
  }

  #onIcmp(packet: IpPacket): void {
    const { frame, addressesAt, payloadAt, end } = packet;
    const destination = addressAt(frame, addressesAt + 4, 4);
    if (destination === this.#gateway || destination === this.#dns) {
      const reply = echoReply(packet, GATEWAY_MAC);
      if (reply !== undefined) this.#sendWhole(reply);
    } else if (end > payloadAt && frame[payloadAt] === IcmpType.echoRequest) {
      // Without privilege there is no way to send an echo request into the world: better said than not answered.
      this.#reject(packet, 13);
    }
  }

  #isDhcp(packet: IpPacket): boolean {
    const datagram = parseUdp(packet);
    if (datagram?.destinationPort !== DHCP_SERVER_PORT || datagram.sourcePort !== DHCP_CLIENT_PORT) return false;
    const to = addressAt(packet.frame, packet.addressesAt + 4, 4);
    return to === "255.255.255.255" || to === this.#gateway;
  }

  #onDhcp(packet: IpPacket): void {
    const reply = this.#dhcp.answer(parseUdp(packet)!.payload);
    if (reply === undefined) return;
    const header = new FlowHeader({
      sourceMac: GATEWAY_MAC,
      destinationMac: reply.broadcast ? BROADCAST : sourceOf(packet.frame),
      source: this.#plan.gateway,
      destination: reply.broadcast ? BROADCAST_IP : reply.to,
      protocol: Protocol.udp,
    });
    sendDatagram(this.#context, header, DHCP_SERVER_PORT, DHCP_CLIENT_PORT, reply.bytes);
  }

  #reject(packet: IpPacket, code: number): void {
    if (destinationOf(packet.frame) !== GATEWAY_MAC) return;
    if (packet.version === 6) this.#sendWhole(unreachableIpv6(packet, code, GATEWAY_MAC, IPV6_GATEWAY));
    else this.#sendWhole(icmpError(packet, IcmpType.unreachable, code, GATEWAY_MAC, this.#plan.gateway));
  }

  #sendWhole(bytes: Uint8Array): void {
    this.#context.send({ bytes, checksum: "verified", segmentBytes: 0 });
  }

  onRoom(): void {
    this.#tcp.onRoom();
  }

  onUnplug(): void {
    this.#tcp.close();
    this.#udp.close();
  }

  /** Resets connections and stops listening. */
  close(): void {
    this.#neighbours.close();
    this.#tcp.close();
    this.#udp.close();
    for (const forward of this.#forwards) forward.close();
    this.#forwards = [];
  }
}
