/** IP addresses as text, in one spelling each, so that they can be keys; and blocks of them. */

import { u16 } from "./bytes.ts";

export type IpVersion = 4 | 6;
/** Dotted decimal, or RFC 5952's spelling. */
export type IpAddress = string;

export const addressBytesOf = (version: IpVersion): 4 | 16 => (version === 4 ? 4 : 16);

export function addressAt(bytes: Uint8Array, at: number, version: IpVersion): IpAddress {
  return version === 4 ? `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}` : formatIpv6(bytes, at);
}

function formatIpv6(bytes: Uint8Array, at: number): IpAddress {
  const groups = Array.from({ length: 8 }, (_, n) => u16(bytes, at + 2 * n));
  const { start, length } = longestZeros(groups);
  const text = (part: number[]): string => part.map((group) => group.toString(16)).join(":");
  return length < 2 ? text(groups) : `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}

function longestZeros(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let end = start;
    while (end < groups.length && groups[end] === 0) end++;
    if (end - start > best.length) best = { start, length: end - start };
  }
  return best;
}

/** @returns its 4 or 16 bytes; undefined for what is no address */
export function parseAddress(text: string): Uint8Array | undefined {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256))
    return undefined;
  return Uint8Array.from(parts, Number);
}

function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map(parseGroups);
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  const zeros = 8 - head.length - (tail?.length ?? 0);
  if (halves.length === 1 ? zeros !== 0 : zeros < 1) return undefined;
  const groups = [...head, ...new Array<number>(zeros).fill(0), ...(tail ?? [])];
  return Uint8Array.from(groups.flatMap((group) => [group >>> 8, group & 0xff]));
}

/** Groups of hexadecimal digits; the last may be two in dotted decimal. */
function parseGroups(text: string): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [n, part] of parts.entries()) {
    const dotted = n === parts.length - 1 && part.includes(".") ? parseIpv4(part) : undefined;
    if (dotted !== undefined) groups.push(u16(dotted, 0), u16(dotted, 2));
    else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

/** The one spelling that equal addresses share; undefined for what is no address. */
export function canonical(text: string): IpAddress | undefined {
  const bytes = parseAddress(text);
  return bytes && addressAt(bytes, 0, versionOf(bytes));
}

export const versionOf = (bytes: Uint8Array): IpVersion => (bytes.length === 4 ? 4 : 6);

/** All addresses that share their first bits. */
export class AddressBlock {
  readonly version: IpVersion;
  readonly prefixBits: number;
  /** The block's first address. */
  readonly base: Uint8Array;

  constructor(base: Uint8Array, prefixBits: number) {
    this.version = versionOf(base);
    this.prefixBits = prefixBits;
    this.base = base.map((byte, n) => byte & maskByte(prefixBits, n));
  }

  /** @returns undefined for what is not ADDRESS/BITS or an address alone */
  static parse(text: string): AddressBlock | undefined {
    const [address, bits] = text.split("/");
    const base = parseAddress(address);
    if (base === undefined || (bits !== undefined && !/^\d{1,3}$/.test(bits))) return undefined;
    const prefixBits = bits === undefined ? base.length * 8 : Number(bits);
    return prefixBits > base.length * 8 ? undefined : new AddressBlock(base, prefixBits);
  }

  /** @param at  where an address of `version` starts */
  holds(bytes: Uint8Array, at: number, version: IpVersion): boolean {
    if (version !== this.version) return false;
    return this.base.every((byte, n) => (bytes[at + n] & maskByte(this.prefixBits, n)) === byte);
  }

  holdsAddress(address: IpAddress): boolean {
    const bytes = parseAddress(address);
    return bytes !== undefined && this.holds(bytes, 0, versionOf(bytes));
  }

  /** The nth address of the block, n below 2^32. */
  nth(n: number): Uint8Array {
    const address = this.base.slice();
    for (let at = address.length - 1, rest = n; at >= 0 && rest > 0; at--, rest = Math.floor(rest / 256)) {
      address[at] |= rest % 256;
    }
    return address;
  }

  get mask(): Uint8Array {
    return this.base.map((_, n) => maskByte(this.prefixBits, n));
  }

  toString(): string {
    return `${addressAt(this.base, 0, this.version)}/${this.prefixBits}`;
  }
}

/** The mask's byte `n`. */
const maskByte = (prefixBits: number, n: number): number =>
  (0xff00 >> Math.min(8, Math.max(0, prefixBits - 8 * n))) & 0xff;
