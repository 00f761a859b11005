/** Who talks to whom, from the guest's side. */
import { addressAt, addressBytesOf, type IpAddress, type IpVersion } from "../wire/address.ts";
import { type Mac, sourceOf } from "../wire/ethernet.ts";
import type { IpPacket } from "../wire/ip.ts";

/** A guest's address, and where on the Ethernet it is. */
export interface GuestEnd {
  readonly mac: Mac;
  readonly address: IpAddress;
  readonly bytes: Uint8Array;
}

export interface PeerEnd {
  readonly address: IpAddress;
  readonly bytes: Uint8Array;
}

/** The two ends that a packet of the guest names. Their bytes are copies. */
export function endsOf(packet: IpPacket): {
  readonly version: IpVersion;
  readonly guest: GuestEnd;
  readonly peer: PeerEnd;
} {
  const { frame, addressesAt: at, version } = packet;
  const size = addressBytesOf(version);
  return {
    version,
    guest: { mac: sourceOf(frame), address: addressAt(frame, at, version), bytes: frame.slice(at, at + size) },
    peer: { address: addressAt(frame, at + size, version), bytes: frame.slice(at + size, at + 2 * size) },
  };
}

/** One string for each flow, from a packet of the guest; cheap, as it is made for every packet. */
export function flowKey({ frame, addressesAt, version, payloadAt }: IpPacket): string {
  let key = "";
  for (let at = addressesAt, end = at + 2 * addressBytesOf(version); at < end; at += 2) {
    key += String.fromCharCode((frame[at] << 8) | frame[at + 1]);
  }
  return (
    key + portsKey((frame[payloadAt] << 8) | frame[payloadAt + 1], (frame[payloadAt + 2] << 8) | frame[payloadAt + 3])
  );
}

/** The same for a flow that the host begins. */
export function flowKeyOf(guest: Uint8Array, guestPort: number, peer: Uint8Array, peerPort: number): string {
  let key = "";
  for (const address of [guest, peer]) {
    for (let at = 0; at < address.length; at += 2) key += String.fromCharCode((address[at] << 8) | address[at + 1]);
  }
  return key + portsKey(guestPort, peerPort);
}

const portsKey = (guestPort: number, peerPort: number): string => String.fromCharCode(guestPort, peerPort);
