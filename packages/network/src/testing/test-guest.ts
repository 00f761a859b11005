/** A guest's end of a cable, for tests: it says what it is told to say and keeps what it hears. */
import { type Frame, type Frames, NO_OFFLOADS, type Offloads, plug } from "@xenoserver/devices/net/frames.ts";
import { addressAt, type IpAddress, parseAddress } from "../wire/address.ts";
import { put16, put32 } from "../wire/bytes.ts";
import type { Mac } from "../wire/ethernet.ts";
import { FlowHeader } from "../wire/flow-header.ts";
import { type IpPacket, Protocol, parseIp } from "../wire/ip.ts";
import { parseTcp, TCP_BYTES, type TcpSegment } from "../wire/tcp.ts";
import { checksumHolds, parseUdp, UDP_BYTES, type UdpDatagram } from "../wire/transport.ts";

export const GUEST_MAC: Mac = 0x00163e000001;

export interface Ends {
  readonly from?: IpAddress;
  readonly to: IpAddress;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export class TestGuest implements Frames {
  offloads: Offloads = NO_OFFLOADS;
  peer: Frames | undefined;
  readonly address: IpAddress;
  readonly mac: Mac;
  readonly gatewayMac: Mac;
  /** What came and was not looked at yet. */
  frames: Frame[] = [];
  /** Set to false, it refuses frames, as a device whose queue is full. */
  hasRoom = true;

  constructor(network: Frames, gatewayMac: Mac, address: IpAddress = "10.0.2.15", mac = GUEST_MAC) {
    this.address = address;
    this.mac = mac;
    this.gatewayMac = gatewayMac;
    plug(this, network);
  }

  onFrame(frame: Frame): boolean {
    if (this.hasRoom) this.frames.push(frame);
    return this.hasRoom;
  }

  onRoom(): void {}

  send(bytes: Uint8Array, more: Partial<Frame> = {}): boolean {
    return this.peer!.onFrame({ bytes, checksum: "full", segmentBytes: 0, ...more });
  }

  #header({ from, to }: Ends, protocol: number): FlowHeader {
    return new FlowHeader({
      sourceMac: this.mac,
      destinationMac: this.gatewayMac,
      source: parseAddress(from ?? this.address)!,
      destination: parseAddress(to)!,
      protocol,
    });
  }

  udp(ends: Ends, payload: Uint8Array, destinationMac?: Mac): void {
    const header = this.#header(ends, Protocol.udp);
    const bytes = header.frame(UDP_BYTES + payload.length);
    const at = header.transportAt;
    put16(bytes, at, ends.sourcePort);
    put16(bytes, at + 2, ends.destinationPort);
    put16(bytes, at + 4, UDP_BYTES + payload.length);
    bytes.set(payload, at + UDP_BYTES);
    if (destinationMac !== undefined) bytes.fill(0xff, 0, 6);
    this.send(header.finish(bytes, 6, NO_OFFLOADS).bytes);
  }

  tcp(
    ends: Ends,
    segment: { seq: number; ack?: number; flags: number; window?: number; payload?: Uint8Array; options?: Uint8Array },
  ): void {
    const { seq, ack = 0, flags, window = 65535, payload = new Uint8Array(0), options = new Uint8Array(0) } = segment;
    const header = this.#header(ends, Protocol.tcp);
    const headerBytes = TCP_BYTES + options.length;
    const bytes = header.frame(headerBytes + payload.length);
    const at = header.transportAt;
    put16(bytes, at, ends.sourcePort);
    put16(bytes, at + 2, ends.destinationPort);
    put32(bytes, at + 4, seq);
    put32(bytes, at + 8, ack);
    bytes[at + 12] = (headerBytes / 4) << 4;
    bytes[at + 13] = flags;
    put16(bytes, at + 14, window);
    put32(bytes, at + 16, 0);
    bytes.set(options, at + TCP_BYTES);
    bytes.set(payload, at + headerBytes);
    this.send(header.finish(bytes, 16, NO_OFFLOADS).bytes);
  }

  /** Takes all frames that came. */
  heard(): Frame[] {
    const { frames } = this;
    this.frames = [];
    return frames;
  }

  #packets(protocol: number): IpPacket[] {
    return this.heard().flatMap(({ bytes, checksum }) => {
      const packet = parseIp(bytes);
      if (packet?.protocol !== protocol) return [];
      if (
        protocol !== Protocol.icmp &&
        packet.fragment === undefined &&
        checksum === "full" &&
        !checksumHolds(packet)
      ) {
        throw new Error(`a frame has a wrong checksum: ${Buffer.from(bytes).toString("hex")}`);
      }
      return [packet];
    });
  }

  segments(): (TcpSegment & { readonly segmentBytes: number })[] {
    const sizes = this.frames.map(({ segmentBytes }) => segmentBytes);
    return this.#packets(Protocol.tcp).map((packet, n) => ({ ...parseTcp(packet)!, segmentBytes: sizes[n] }));
  }

  datagrams(): (UdpDatagram & { readonly from: IpAddress })[] {
    return this.#packets(Protocol.udp).map((packet) => ({
      ...parseUdp(packet)!,
      from: addressAt(packet.frame, packet.addressesAt, 4),
    }));
  }

  /** Type, code and the rest of each ICMP message. */
  icmp(): { readonly type: number; readonly code: number; readonly body: Uint8Array }[] {
    return this.#packets(Protocol.icmp).map(({ frame, payloadAt, end }) => ({
      type: frame[payloadAt],
      code: frame[payloadAt + 1],
      body: frame.subarray(payloadAt + 4, end),
    }));
  }
}

/** An IPv4 packet around a payload, for protocols that `TestGuest` has no method for. */
export function ipv4Frame(guest: TestGuest, to: IpAddress, protocol: number, payload: Uint8Array): Uint8Array {
  const header = new FlowHeader({
    sourceMac: guest.mac,
    destinationMac: guest.gatewayMac,
    source: parseAddress(guest.address)!,
    destination: parseAddress(to)!,
    protocol,
  });
  const bytes = header.frame(payload.length);
  bytes.set(payload, header.transportAt);
  return bytes;
}
