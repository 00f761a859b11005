/** A module of translated code as it lies in a file: a head, what its regions are, its bytes, and its machine code. */
import { crc32 } from "node:zlib";

/** Words of a record's head. */
const Head = {
  magic: 0,
  /** Of the whole record, a multiple of four. */
  sizeBytes: 1,
  /** Written again where it is, so that no sum has it. */
  usedAt: 2,
  /** Of the head from here on, and of the regions. */
  headSum: 3,
  /** Of the bytes and the machine code. */
  bodySum: 4,
  regionsBytes: 5,
  moduleBytes: 6,
  codeBytes: 7,
  /** Tells modules apart: a sum of its regions and bytes. */
  identity: 8,
  words: 9,
} as const;
export const HEAD_BYTES = Head.words * 4;
const SUMMED_FROM = (Head.headSum + 1) * 4;
/** Where in a record `usedAt` is. */
export const USED_AT = Head.usedAt * 4;
const MAGIC = 0x32544b58;
/** A record is never larger: most regions in a module have less than a tenth of that. */
export const MAX_RECORD_BYTES = 8 * 1024 * 1024;

export interface RecordHead {
  readonly sizeBytes: number;
  /** When it was written or a domain last had it, in seconds since 1970. */
  readonly usedAt: number;
  readonly headSum: number;
  readonly bodySum: number;
  readonly regionsBytes: number;
  readonly moduleBytes: number;
  readonly codeBytes: number;
  readonly identity: number;
}
export interface KeptTranslation {
  /** Words of `describeRegions`. */
  readonly regions: Int32Array;
  readonly bytes: Uint8Array;
  readonly code: Uint8Array;
}

export const nowSeconds = (): number => Math.floor(Date.now() / 1000);

const asBytes = (words: Int32Array): Uint8Array => new Uint8Array(words.buffer, words.byteOffset, words.byteLength);

export const identityOf = (regions: Int32Array, bytes: Uint8Array): number => crc32(bytes, crc32(asBytes(regions)));

export function encodeRecord({ regions, bytes, code }: KeptTranslation): Uint8Array<ArrayBuffer> {
  const unpadded = HEAD_BYTES + regions.byteLength + bytes.length + code.length;
  const record = new Uint8Array(Math.ceil(unpadded / 4) * 4);
  const head = new Uint32Array(record.buffer, 0, Head.words);
  const body = HEAD_BYTES + regions.byteLength;
  record.set(asBytes(regions), HEAD_BYTES);
  record.set(bytes, body);
  record.set(code, body + bytes.length);
  head[Head.magic] = MAGIC;
  head[Head.sizeBytes] = record.length;
  head[Head.usedAt] = nowSeconds();
  head[Head.regionsBytes] = regions.byteLength;
  head[Head.moduleBytes] = bytes.length;
  head[Head.codeBytes] = code.length;
  head[Head.identity] = identityOf(regions, bytes);
  head[Head.bodySum] = crc32(record.subarray(body, unpadded));
  head[Head.headSum] = crc32(record.subarray(SUMMED_FROM, body));
  return record;
}

/** @returns undefined if no record begins there */
export function decodeHead(bytes: Uint8Array): RecordHead | undefined {
  if (bytes.length < HEAD_BYTES) return undefined;
  const isAligned = bytes.byteOffset % 4 === 0;
  const words = isAligned
    ? new Uint32Array(bytes.buffer, bytes.byteOffset, Head.words)
    : new Uint32Array(bytes.slice(0, HEAD_BYTES).buffer);
  const [regionsBytes, moduleBytes, codeBytes] = [
    words[Head.regionsBytes]!,
    words[Head.moduleBytes]!,
    words[Head.codeBytes]!,
  ];
  const sizeBytes = Math.ceil((HEAD_BYTES + regionsBytes + moduleBytes + codeBytes) / 4) * 4;
  const isRecord =
    words[Head.magic] === MAGIC &&
    words[Head.sizeBytes] === sizeBytes &&
    sizeBytes <= MAX_RECORD_BYTES &&
    regionsBytes % 4 === 0;
  if (!isRecord) return undefined;
  const [headSum, bodySum, identity] = [words[Head.headSum]!, words[Head.bodySum]!, words[Head.identity]!];
  return { sizeBytes, usedAt: words[Head.usedAt]!, headSum, bodySum, regionsBytes, moduleBytes, codeBytes, identity };
}

/** @param bytes  a record's head and regions @returns whether they are as they were written */
export const isHeadWhole = (head: RecordHead, bytes: Uint8Array): boolean =>
  crc32(bytes.subarray(SUMMED_FROM, HEAD_BYTES + head.regionsBytes)) === head.headSum;
/** @param bytes  a record's bytes and machine code */
export const isBodyWhole = (head: RecordHead, bytes: Uint8Array): boolean => crc32(bytes) === head.bodySum;
