/** ARP between Ethernet and IPv4 (RFC 826). */
import { addressAt, type IpAddress, parseAddress } from "./address.ts";
import { put16, u16 } from "./bytes.ts";
import { ETHERNET_BYTES, EtherType, type Mac, macAt, putEthernet, putMac } from "./ethernet.ts";

export const ArpOperation = { request: 1, reply: 2 } as const;

const ARP_BYTES = 28;

export interface Arp {
  readonly operation: number;
  readonly senderMac: Mac;
  readonly senderIp: IpAddress;
  readonly targetMac: Mac;
  readonly targetIp: IpAddress;
}

/** @returns undefined for what is not ARP for IPv4 over Ethernet */
export function parseArp(frame: Uint8Array): Arp | undefined {
  const at = ETHERNET_BYTES;
  if (frame.length < at + ARP_BYTES) return undefined;
  if (u16(frame, at) !== 1 || u16(frame, at + 2) !== EtherType.ipv4 || u16(frame, at + 4) !== 0x0604) return undefined;
  return {
    operation: u16(frame, at + 6),
    senderMac: macAt(frame, at + 8),
    senderIp: addressAt(frame, at + 14, 4),
    targetMac: macAt(frame, at + 18),
    targetIp: addressAt(frame, at + 24, 4),
  };
}

/** A frame from the sender to `destination`. */
export function buildArp(destination: Mac, arp: Arp): Uint8Array {
  const frame = new Uint8Array(ETHERNET_BYTES + ARP_BYTES);
  putEthernet(frame, destination, arp.senderMac, EtherType.arp);
  const at = ETHERNET_BYTES;
  put16(frame, at, 1);
  put16(frame, at + 2, EtherType.ipv4);
  put16(frame, at + 4, 0x0604);
  put16(frame, at + 6, arp.operation);
  putMac(frame, at + 8, arp.senderMac);
  frame.set(parseAddress(arp.senderIp)!, at + 14);
  putMac(frame, at + 18, arp.targetMac);
  frame.set(parseAddress(arp.targetIp)!, at + 24);
  return frame;
}
