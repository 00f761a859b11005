/** All TCP connections of the guests of a network, and the segments that belong to none. */
import type { Socket } from "node:net";
import { put16, put32, u16 } from "../../wire/bytes.ts";
import { FlowHeader } from "../../wire/flow-header.ts";
import { Unreachable } from "../../wire/icmp.ts";
import { IPV4_BYTES, IPV6_BYTES, type IpPacket, Protocol } from "../../wire/ip.ts";
import { parseTcp, seqAdd, TCP_BYTES, TcpFlag, type TcpSegment } from "../../wire/tcp.ts";
import { Budget } from "../budget.ts";
import type { UserContext } from "../context.ts";
import { splitHostPort } from "../dns.ts";
import { endsOf, flowKey, flowKeyOf, type GuestEnd, type PeerEnd } from "../flow.ts";
import { Connection, type OpenStream } from "./connection.ts";
import { FirstSeq } from "./first-seq.ts";
import { acceptedStream, type Dial, dial } from "./host-stream.ts";

export interface TcpLimits {
  /** More than this many are refused, unless one of them has been idle for long. */
  readonly connections: number;
  /** Of all connections, each way. */
  readonly bufferBytes: number;
}

export const TCP_LIMITS: TcpLimits = { connections: 1024, bufferBytes: 64 << 20 };

const SWEEP_MS = 10_000;
const IDLE_MS = 2 * 3600_000;
/** Connections that have not been agreed on may take this long. */
const HALF_OPEN_MS = 75_000;
/** An idle connection may have to make room for a new one after this. */
const EVICTABLE_MS = 60_000;
const DNS_PORT = 53;

export class TcpNat {
  readonly #context: UserContext;
  readonly #limits: TcpLimits;
  readonly #dial: Dial;
  readonly #connections = new Map<string, Connection>();
  readonly #firstSeq = new FirstSeq();
  readonly #inboundBudget: Budget;
  readonly #outboundBudget: Budget;
  #unacknowledged: Connection[] = [];
  #sweeper: NodeJS.Timeout | undefined;

  constructor(context: UserContext, limits: TcpLimits = TCP_LIMITS, dialHost: Dial = dial) {
    this.#context = context;
    this.#limits = limits;
    this.#dial = dialHost;
    this.#inboundBudget = new Budget(limits.bufferBytes);
    this.#outboundBudget = new Budget(limits.bufferBytes);
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Takes a packet of a guest whose checksum holds. */
  onPacket(packet: IpPacket): void {
    const segment = parseTcp(packet);
    if (segment === undefined) return;
    const key = flowKey(packet);
    const connection = this.#connections.get(key);
    if (connection !== undefined) connection.onSegment(segment);
    else if ((segment.flags & (TcpFlag.syn | TcpFlag.ack | TcpFlag.rst)) === TcpFlag.syn)
      this.#begin(key, packet, segment);
    else if ((segment.flags & TcpFlag.rst) === 0) this.#refuse(packet, segment);
  }

  /** The guest opens a connection. */
  #begin(key: string, packet: IpPacket, syn: TcpSegment): void {
    const { guest, peer } = endsOf(packet);
    const target = this.#targetOf(peer, syn.destinationPort);
    if (target === undefined || !this.#makeRoom()) {
      this.#refuse(packet, syn);
      return;
    }
    // The guest's frame is kept for the case that there is nobody to talk to.
    const copy = { ...packet, frame: packet.frame.slice(0, packet.end) };
    this.#open(key, guest, syn.sourcePort, peer, syn.destinationPort, syn, copy, (events) =>
      this.#dial(target.host, target.port, events),
    );
  }

  #targetOf(peer: PeerEnd, port: number): { host: string; port: number } | undefined {
    const { egress, resolvers } = this.#context;
    if (egress.isDns(peer.address)) return port === DNS_PORT ? resolvers().map(splitHostPort)[0] : undefined;
    const host = egress.target(peer.address);
    return host === undefined || port === 0 ? undefined : { host, port };
  }

  /**
   * Connects a socket that the host accepted with a port of a guest.
   * @param peer  whom the guest sees; another port is chosen if its connection with that one exists already
   */
  accept(socket: Socket, guest: GuestEnd, guestPort: number, peer: PeerEnd, peerPort: number): void {
    let port = peerPort;
    let key = flowKeyOf(guest.bytes, guestPort, peer.bytes, port);
    for (let tries = 0; this.#connections.has(key) && tries < 64; tries++) {
      port = 49152 + Math.floor(Math.random() * 16384);
      key = flowKeyOf(guest.bytes, guestPort, peer.bytes, port);
    }
    if (this.#connections.has(key) || !this.#makeRoom()) {
      socket.on("error", () => {});
      socket.resetAndDestroy();
      return;
    }
    this.#open(key, guest, guestPort, peer, port, undefined, undefined, (events) => acceptedStream(socket, events));
  }

  #open(
    key: string,
    guest: GuestEnd,
    guestPort: number,
    peer: PeerEnd,
    peerPort: number,
    syn: TcpSegment | undefined,
    firstPacket: IpPacket | undefined,
    open: OpenStream,
  ): void {
    const { mac, mtuBytes } = this.#context;
    const header = new FlowHeader({
      sourceMac: mac,
      destinationMac: guest.mac,
      source: peer.bytes,
      destination: guest.bytes,
      protocol: Protocol.tcp,
    });
    const connection: Connection = new Connection(
      {
        header,
        sourcePort: peerPort,
        destinationPort: guestPort,
        maxSegmentBytes: mtuBytes - (header.version === 4 ? IPV4_BYTES : IPV6_BYTES) - TCP_BYTES,
        inboundBudget: this.#inboundBudget,
        outboundBudget: this.#outboundBudget,
        offloads: () => this.#context.offloads(),
        send: (frame) => this.#context.send(frame),
        acknowledgeSoon: () => this.#acknowledgeSoon(connection),
        onOver: () => this.#connections.delete(key),
        onUnreachable: (code) => {
          if (firstPacket !== undefined) this.#context.reject(firstPacket, UNREACHABLE[code] ?? Unreachable.host);
        },
      },
      this.#firstSeq.next(key),
      syn,
      open,
    );
    this.#connections.set(key, connection);
    this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS);
  }

  /** Frames of one batch are answered by one acknowledgement: it is sent when the stack of calls has come to its end. */
  #acknowledgeSoon(connection: Connection): void {
    if (this.#unacknowledged.length === 0) queueMicrotask(() => this.#acknowledge());
    if (this.#unacknowledged.at(-1) !== connection) this.#unacknowledged.push(connection);
  }

  #acknowledge(): void {
    const connections = new Set(this.#unacknowledged);
    this.#unacknowledged = [];
    for (const connection of connections) connection.acknowledge();
  }

  /** Answers what belongs to no connection with RST, so that the guest forgets it. */
  #refuse(packet: IpPacket, segment: TcpSegment): void {
    const { guest, peer } = endsOf(packet);
    const header = new FlowHeader({
      sourceMac: this.#context.mac,
      destinationMac: guest.mac,
      source: peer.bytes,
      destination: guest.bytes,
      protocol: Protocol.tcp,
    });
    const bytes = header.frame(TCP_BYTES);
    const at = header.transportAt;
    const acknowledges = (segment.flags & TcpFlag.ack) !== 0;
    const length =
      segment.payload.length + ((segment.flags & TcpFlag.syn) !== 0 ? 1 : 0) + (segment.flags & TcpFlag.fin);
    put16(bytes, at, u16(packet.frame, packet.payloadAt + 2));
    put16(bytes, at + 2, u16(packet.frame, packet.payloadAt));
    put32(bytes, at + 4, acknowledges ? segment.ack : 0);
    put32(bytes, at + 8, acknowledges ? 0 : seqAdd(segment.seq, length));
    bytes[at + 12] = (TCP_BYTES / 4) << 4;
    bytes[at + 13] = TcpFlag.rst | (acknowledges ? 0 : TcpFlag.ack);
    put16(bytes, at + 14, 0);
    put32(bytes, at + 16, 0);
    this.#context.send(header.finish(bytes, 16, this.#context.offloads()));
  }

  #makeRoom(): boolean {
    if (this.#connections.size < this.#limits.connections) return true;
    const longest = [...this.#connections.values()].reduce((a, b) => (b.activeMs < a.activeMs ? b : a));
    if (performance.now() - longest.activeMs < EVICTABLE_MS) return false;
    longest.abort();
    return true;
  }

  #sweep(): void {
    const now = performance.now();
    for (const connection of this.#connections.values()) {
      const limitMs = connection.phase === "open" ? IDLE_MS : HALF_OPEN_MS;
      if (now - connection.activeMs > limitMs) connection.abort();
    }
    if (this.#connections.size > 0) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }

  /** The guest's device has room again. */
  onRoom(): void {
    for (const connection of this.#connections.values()) connection.onRoom();
  }

  /** Resets all connections. */
  close(): void {
    for (const connection of [...this.#connections.values()]) connection.abort();
    clearInterval(this.#sweeper);
  }
}

const UNREACHABLE: Readonly<Record<string, number>> = {
  ENETUNREACH: Unreachable.network,
  EACCES: Unreachable.prohibited,
  EPERM: Unreachable.prohibited,
};
