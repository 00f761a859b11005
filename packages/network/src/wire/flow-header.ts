/**
 * Frames of one flow differ in little: the Ethernet and IP headers are made once and patched for each frame.
 */
import type { Frame, Offloads } from "@xenoserver/devices/net/frames.ts";
import { type IpVersion, versionOf } from "./address.ts";
import { put16 } from "./bytes.ts";
import { addWords, complement, fold, pseudoSum } from "./checksum.ts";
import { ETHERNET_BYTES, EtherType, type Mac, putEthernet } from "./ethernet.ts";
import { IPV4_BYTES, IPV6_BYTES, Protocol, putIpv4, putIpv6 } from "./ip.ts";

/** From whom to whom. */
export interface FlowEnds {
  readonly sourceMac: Mac;
  readonly destinationMac: Mac;
  /** 4 or 16 bytes; both of one length. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
}

export class FlowHeader {
  readonly version: IpVersion;
  /** Where the transport header starts in a frame. */
  readonly transportAt: number;
  readonly #protocol: number;
  readonly #template: Uint8Array;
  /** Of the IPv4 header with length and identification zero; of the pseudo-header with length zero. */
  readonly #ipSum: number;
  readonly #pseudoSum: number;
  #id = 0;

  constructor({ sourceMac, destinationMac, source, destination, protocol }: FlowEnds) {
    this.version = versionOf(source);
    this.#protocol = protocol;
    const ipBytes = this.version === 4 ? IPV4_BYTES : IPV6_BYTES;
    this.transportAt = ETHERNET_BYTES + ipBytes;
    this.#template = new Uint8Array(this.transportAt);
    putEthernet(this.#template, destinationMac, sourceMac, this.version === 4 ? EtherType.ipv4 : EtherType.ipv6);
    if (this.version === 4) putIpv4(this.#template, source, destination, protocol, 0);
    else putIpv6(this.#template, source, destination, protocol, 0);
    if (this.version === 4) put16(this.#template, ETHERNET_BYTES + 10, 0);
    this.#ipSum = addWords(this.#template, ETHERNET_BYTES, this.transportAt);
    this.#pseudoSum = pseudoSum(this.#template, this.transportAt - 2 * source.length, source.length, protocol, 0);
  }

  /** A frame with its Ethernet and IP headers; the caller fills all `transportBytes` behind them. */
  frame(transportBytes: number): Uint8Array {
    const bytes = Buffer.allocUnsafe(this.transportAt + transportBytes);
    bytes.set(this.#template);
    if (this.version === 6) {
      put16(bytes, ETHERNET_BYTES + 4, transportBytes);
      return bytes;
    }
    const totalBytes = IPV4_BYTES + transportBytes;
    this.#id = (this.#id + 1) & 0xffff;
    put16(bytes, ETHERNET_BYTES + 2, totalBytes);
    put16(bytes, ETHERNET_BYTES + 4, this.#id);
    put16(bytes, ETHERNET_BYTES + 10, complement(this.#ipSum + totalBytes + this.#id));
    return bytes;
  }

  /**
   * Writes the transport checksum, as far as the receiver wants one.
   * @param checksumAt    of the field, from the transport header's start
   * @param segmentBytes  0, or how the receiver has to cut the frame
   */
  finish(bytes: Uint8Array, checksumAt: number, offloads: Offloads, segmentBytes = 0): Frame {
    const at = this.transportAt + checksumAt;
    const pseudo = this.#pseudoSum + (bytes.length - this.transportAt);
    if (this.version === 4 ? offloads.blankIpv4 : offloads.blankIpv6) {
      put16(bytes, at, fold(pseudo));
      return { bytes, checksum: "blank", segmentBytes };
    }
    put16(bytes, at, 0);
    const sum = complement(addWords(bytes, this.transportAt, bytes.length, pseudo));
    put16(bytes, at, sum === 0 && this.#protocol === Protocol.udp ? 0xffff : sum);
    return { bytes, checksum: "full", segmentBytes: 0 };
  }
}
