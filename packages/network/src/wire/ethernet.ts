/** Ethernet II frames. */
import { u16, u32 } from "./bytes.ts";

export const ETHERNET_BYTES = 14;

export const EtherType = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd } as const;

/** A MAC address as a number below 2^48, so that it can be a key. */
export type Mac = number;

export const BROADCAST: Mac = 0xffffffffffff;

export const destinationOf = (frame: Uint8Array): Mac => macAt(frame, 0);
export const sourceOf = (frame: Uint8Array): Mac => macAt(frame, 6);
export const etherTypeOf = (frame: Uint8Array): number => u16(frame, 12);

export const macAt = (bytes: Uint8Array, at: number): Mac => u16(bytes, at) * 2 ** 32 + u32(bytes, at + 2);

export function putMac(bytes: Uint8Array, at: number, mac: Mac): void {
  for (let n = 5, rest = mac; n >= 0; n--, rest = Math.floor(rest / 256)) bytes[at + n] = rest % 256;
}

/** True for a group's address, the broadcast one among them. */
export const isGroup = (mac: Mac): boolean => Math.floor(mac / 2 ** 40) % 2 === 1;

/** True for an address that one interface may have. */
export const isStation = (mac: Mac): boolean => mac !== 0 && !isGroup(mac);

/** @returns undefined for what is not six pairs of hexadecimal digits with ":" or "-" between them */
export function parseMac(text: string): Mac | undefined {
  return /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)
    ? Number.parseInt(text.replaceAll(/[:-]/g, ""), 16)
    : undefined;
}

export const formatMac = (mac: Mac): string => mac.toString(16).padStart(12, "0").match(/../g)!.join(":");

/** Writes the header. */
export function putEthernet(bytes: Uint8Array, destination: Mac, source: Mac, etherType: number): void {
  putMac(bytes, 0, destination);
  putMac(bytes, 6, source);
  bytes[12] = etherType >>> 8;
  bytes[13] = etherType;
}
