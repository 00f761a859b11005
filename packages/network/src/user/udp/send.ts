/** Datagrams to a guest, in fragments where they are longer than its network carries. */

import { NO_OFFLOADS } from "@xenoserver/devices/net/frames.ts";
import { put16 } from "../../wire/bytes.ts";
import { ETHERNET_BYTES } from "../../wire/ethernet.ts";
import { FlowHeader } from "../../wire/flow-header.ts";
import { IPV4_BYTES, Protocol, sealIpv4 } from "../../wire/ip.ts";
import { UDP_BYTES } from "../../wire/transport.ts";
import type { UserContext } from "../context.ts";
import type { GuestEnd } from "../flow.ts";

const CHECKSUM_AT = 6;

export function udpHeader(context: UserContext, guest: GuestEnd, source: Uint8Array): FlowHeader {
  return new FlowHeader({
    sourceMac: context.mac,
    destinationMac: guest.mac,
    source,
    destination: guest.bytes,
    protocol: Protocol.udp,
  });
}

/** Sends a datagram to a guest; it is lost if the guest's device has no room. */
export function sendDatagram(
  context: UserContext,
  header: FlowHeader,
  sourcePort: number,
  destinationPort: number,
  payload: Uint8Array,
): void {
  const udpBytes = UDP_BYTES + payload.length;
  const at = header.transportAt;
  const bytes = header.frame(udpBytes);
  put16(bytes, at, sourcePort);
  put16(bytes, at + 2, destinationPort);
  put16(bytes, at + 4, udpBytes);
  put16(bytes, at + 6, 0);
  bytes.set(payload, at + UDP_BYTES);
  const fits = at - ETHERNET_BYTES + udpBytes <= context.mtuBytes;
  const frame = header.finish(bytes, CHECKSUM_AT, fits ? context.offloads() : NO_OFFLOADS);
  if (fits) context.send(frame);
  // Over IPv6, whoever sends more than the network carries is to find out; here the datagram is just lost.
  else if (header.version === 4) for (const piece of fragments(frame.bytes, context.mtuBytes)) context.send(piece);
}

/** Cuts an IPv4 packet without options. */
function* fragments(
  whole: Uint8Array,
  mtuBytes: number,
): Generator<{ bytes: Uint8Array; checksum: "verified"; segmentBytes: 0 }> {
  const payloadAt = ETHERNET_BYTES + IPV4_BYTES;
  const pieceBytes = (mtuBytes - IPV4_BYTES) & ~7;
  for (let from = payloadAt; from < whole.length; from += pieceBytes) {
    const to = Math.min(whole.length, from + pieceBytes);
    const bytes = new Uint8Array(payloadAt + to - from);
    bytes.set(whole.subarray(0, payloadAt));
    bytes.set(whole.subarray(from, to), payloadAt);
    put16(bytes, ETHERNET_BYTES + 2, bytes.length - ETHERNET_BYTES);
    put16(bytes, ETHERNET_BYTES + 6, ((from - payloadAt) >>> 3) | (to < whole.length ? 0x2000 : 0));
    sealIpv4(bytes);
    yield { bytes, checksum: "verified", segmentBytes: 0 };
  }
}
