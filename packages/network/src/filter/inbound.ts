/** What may come to a guest that accepts only some connections: those, and answers to what it sent. */
import { addressAt, addressBytesOf } from "../wire/address.ts";
import { type IpPacket, Protocol } from "../wire/ip.ts";
import { TCP_BYTES, TcpFlag } from "../wire/tcp.ts";
import { parseUdp, type UdpDatagram } from "../wire/transport.ts";

/** A port of the guest that others may begin with. */
export interface AcceptRule {
  readonly protocol: "tcp" | "udp";
  readonly port: number;
}

/** Questions that are remembered, and for how long; of many, the oldest is forgotten. */
const MAX_QUESTIONS = 1024;
const ANSWER_MS = 120_000;
const DHCP_CLIENT_PORTS: ReadonlySet<number> = new Set([68, 546]);

export class InboundRules {
  readonly #accepted: ReadonlySet<string>;
  /** When the guest last sent from a port to a peer. */
  readonly #questions = new Map<string, number>();

  constructor(accept: readonly AcceptRule[]) {
    this.#accepted = new Set(accept.map(({ protocol, port }) => `${protocol} ${port}`));
  }

  /** Remembers a packet that the guest sent, as its answer may come. */
  onSent(packet: IpPacket): void {
    const datagram = datagramOf(packet);
    if (datagram === undefined) return;
    const key = keyOf(packet, datagram.sourcePort, datagram.destinationPort, "destination");
    this.#questions.delete(key);
    if (this.#questions.size >= MAX_QUESTIONS) this.#questions.delete(this.#questions.keys().next().value!);
    this.#questions.set(key, performance.now());
  }

  /** Whether a packet may go to the guest. TCP is told by its first segment: without a SYN there is no connection. */
  passes(packet: IpPacket): boolean {
    const { protocol, frame, payloadAt, end, fragment } = packet;
    if (fragment !== undefined && fragment.offsetBytes > 0) return true;
    if (protocol === Protocol.icmp || protocol === Protocol.icmpv6) return true;
    if (protocol === Protocol.tcp) {
      if (end - payloadAt < TCP_BYTES) return false;
      const begins = (frame[payloadAt + 13] & (TcpFlag.syn | TcpFlag.ack)) === TcpFlag.syn;
      return !begins || this.#accepted.has(`tcp ${frame[payloadAt + 2] * 256 + frame[payloadAt + 3]}`);
    }
    const datagram = datagramOf(packet);
    if (datagram === undefined) return false;
    const { sourcePort, destinationPort } = datagram;
    if (this.#accepted.has(`udp ${destinationPort}`) || DHCP_CLIENT_PORTS.has(destinationPort)) return true;
    const askedMs = this.#questions.get(keyOf(packet, destinationPort, sourcePort, "source"));
    return askedMs !== undefined && performance.now() - askedMs <= ANSWER_MS;
  }
}

/** Ports of a datagram, also of one whose later fragments are still to come. */
function datagramOf(packet: IpPacket): Pick<UdpDatagram, "sourcePort" | "destinationPort"> | undefined {
  if (packet.protocol !== Protocol.udp) return undefined;
  const { frame, payloadAt: at, end, fragment } = packet;
  if (fragment === undefined) return parseUdp(packet);
  if (fragment.offsetBytes > 0 || end - at < 8) return undefined;
  return { sourcePort: frame[at] * 256 + frame[at + 1], destinationPort: frame[at + 2] * 256 + frame[at + 3] };
}

/** The guest's port, the peer's address and port; the peer is the packet's source or destination. */
function keyOf(packet: IpPacket, guestPort: number, peerPort: number, peer: "source" | "destination"): string {
  const at = packet.addressesAt + (peer === "source" ? 0 : addressBytesOf(packet.version));
  return `${guestPort} ${addressAt(packet.frame, at, packet.version)} ${peerPort}`;
}
