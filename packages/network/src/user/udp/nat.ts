/**
 * UDP of the guests: each port of a guest has a socket of the host, as long as it is used. A datagram from outside
 * reaches the guest only from where the guest has sent to.
 */
import { createSocket, type Socket } from "node:dgram";
import type { IpAddress, IpVersion } from "../../wire/address.ts";
import type { FlowHeader } from "../../wire/flow-header.ts";
import { Unreachable } from "../../wire/icmp.ts";
import type { IpPacket } from "../../wire/ip.ts";
import { parseUdp } from "../../wire/transport.ts";
import type { UserContext } from "../context.ts";
import { DnsForwarder } from "../dns.ts";
import { endsOf, type GuestEnd, type PeerEnd } from "../flow.ts";
import { sendDatagram, udpHeader } from "./send.ts";

export interface UdpLimits {
  /** Sockets open at once; the one that was idle longest has to go for a new one. */
  readonly ports: number;
  /** Peers of one port that may answer; the one that was idle longest is forgotten. */
  readonly peersPerPort: number;
  readonly idleMs: number;
}

export const UDP_LIMITS: UdpLimits = { ports: 256, peersPerPort: 64, idleMs: 120_000 };

const SWEEP_MS = 10_000;
const DNS_PORT = 53;
/** More than this waiting in a socket, and datagrams are lost, as they would be on any full line. */
const MAX_QUEUED_BYTES = 1 << 20;

export class UdpNat {
  readonly #context: UserContext;
  readonly #limits: UdpLimits;
  readonly #dns: DnsForwarder;
  readonly #ports = new Map<string, GuestPort>();
  #sweeper: NodeJS.Timeout | undefined;

  constructor(context: UserContext, limits: UdpLimits = UDP_LIMITS) {
    this.#context = context;
    this.#limits = limits;
    this.#dns = new DnsForwarder(context.resolvers);
  }

  get ports(): number {
    return this.#ports.size;
  }

  /** Takes a packet of a guest whose checksum holds. */
  onPacket(packet: IpPacket): void {
    const datagram = parseUdp(packet);
    if (datagram === undefined || datagram.sourcePort === 0 || datagram.destinationPort === 0) return;
    const { guest, peer, version } = endsOf(packet);
    const { sourcePort, destinationPort, payload } = datagram;
    if (this.#context.egress.isDns(peer.address)) {
      if (destinationPort === DNS_PORT) this.#askDns(guest, sourcePort, peer, payload);
      else this.#context.reject(packet, Unreachable.port);
      return;
    }
    const target = this.#context.egress.target(peer.address);
    if (target === undefined) {
      this.#context.reject(packet, Unreachable.prohibited);
      return;
    }
    this.#portOf(guest, sourcePort, version).send(payload, peer, destinationPort, target);
  }

  #askDns(guest: GuestEnd, guestPort: number, dns: PeerEnd, question: Uint8Array): void {
    this.#dns.ask(question, (answer) => {
      const header = udpHeader(this.#context, guest, dns.bytes);
      sendDatagram(this.#context, header, DNS_PORT, guestPort, answer);
    });
  }

  #portOf(guest: GuestEnd, port: number, version: IpVersion): GuestPort {
    const key = `${guest.address} ${port}`;
    let found = this.#ports.get(key);
    if (found === undefined) {
      if (this.#ports.size >= this.#limits.ports) this.#closeLongestIdle();
      found = new GuestPort(this.#context, this.#limits.peersPerPort, guest, port, version, () =>
        this.#ports.delete(key),
      );
      this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS);
    } else this.#ports.delete(key);
    // The map's order is that of last use.
    this.#ports.set(key, found);
    return found;
  }

  #closeLongestIdle(): void {
    const [longest] = this.#ports.values();
    longest?.close();
  }

  #sweep(): void {
    const now = performance.now();
    for (const port of [...this.#ports.values()]) if (now - port.activeMs > this.#limits.idleMs) port.close();
    if (this.#ports.size > 0) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }

  close(): void {
    for (const port of [...this.#ports.values()]) port.close();
    this.#dns.close();
    clearInterval(this.#sweeper);
  }
}

/** One of the guest's ports, with its socket. */
class GuestPort {
  activeMs = performance.now();
  readonly #context: UserContext;
  readonly #maxPeers: number;
  readonly #guest: GuestEnd;
  readonly #port: number;
  readonly #socket: Socket;
  readonly #onClose: () => void;
  /** Who may answer, by the host's names for them. */
  readonly #peers = new Map<string, { readonly header: FlowHeader; readonly port: number }>();
  #closed = false;

  constructor(
    context: UserContext,
    maxPeers: number,
    guest: GuestEnd,
    port: number,
    version: IpVersion,
    onClose: () => void,
  ) {
    this.#context = context;
    this.#maxPeers = maxPeers;
    this.#guest = guest;
    this.#port = port;
    this.#onClose = onClose;
    this.#socket = createSocket(version === 4 ? "udp4" : "udp6");
    this.#socket.on("error", () => this.close());
    this.#socket.on("message", (bytes, { address, port: from }) => this.#onMessage(bytes, address, from));
  }

  send(payload: Uint8Array, peer: PeerEnd, port: number, target: IpAddress): void {
    this.activeMs = performance.now();
    this.#remember(peer, port, target);
    if (this.#closed || this.#socket.getSendQueueSize() > MAX_QUEUED_BYTES) return;
    this.#socket.send(payload, port, target, () => {});
  }

  #remember(peer: PeerEnd, port: number, target: IpAddress): void {
    const key = `${target} ${port}`;
    const known = this.#peers.get(key);
    if (known === undefined && this.#peers.size >= this.#maxPeers) {
      const [oldest] = this.#peers.keys();
      this.#peers.delete(oldest);
    }
    this.#peers.delete(key);
    this.#peers.set(key, known ?? { header: udpHeader(this.#context, this.#guest, peer.bytes), port });
  }

  #onMessage(bytes: Uint8Array, address: string, port: number): void {
    const peer = this.#peers.get(`${address} ${port}`);
    if (peer === undefined) return;
    this.activeMs = performance.now();
    sendDatagram(this.#context, peer.header, peer.port, this.#port, bytes);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
    this.#onClose();
  }
}
