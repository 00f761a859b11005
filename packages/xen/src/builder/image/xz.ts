/**
 * The xz container: streams of blocks, an index, checksums.
 *
 * Written here because no maintained package decodes the x86 branch filter (which every xz-compressed kernel uses)
 * without a native add-on.
 *
 * @see https://tukaani.org/xz/xz-file-format.txt
 */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { arrayToFill } from "../../host/huge-pages.ts";
import { unfilterX86 } from "./bcj-x86.ts";
import { crc64 } from "./crc64.ts";
import { Lzma2Decoder, LzmaError } from "./lzma2.ts";

export interface XzOptions {
  /** Refuses data that unpacks to more; default 1 GiB. */
  readonly maxBytes?: number;
  /**
   * Asked from time to time with the output so far; true stops decoding there, and what follows is neither decoded
   * nor verified. Not asked within blocks that use the x86 filter.
   */
  readonly enough?: (output: Uint8Array) => boolean;
}

const FOOTER_BYTES = 12;
const HEADER_BYTES = 12;
const FILTER_X86 = 4;
const FILTER_LZMA2 = 0x21;
const CHECK_BYTES: Readonly<Record<number, number>> = { 0: 0, 1: 4, 4: 8, 10: 32 };
const DEFAULT_MAX_BYTES = 2 ** 30;

export const isXz = (bytes: Uint8Array): boolean =>
  [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00].every((byte, i) => bytes[i] === byte);

/**
 * Unpacks one xz stream that fills `bytes` (zero padding behind it is skipped).
 * @throws LzmaError  the data is truncated, damaged, larger than `maxBytes` unpacked, or uses an unknown filter
 */
export function decodeXz(bytes: Uint8Array, options: XzOptions = {}): Uint8Array {
  if (!isXz(bytes)) throw new LzmaError("data has no xz signature");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { records, indexStart, checkType } = readIndex(bytes, view);
  const total = records.reduce((sum, record) => sum + record.unpackedBytes, 0);
  const maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
  if (total > maxBytes) throw new LzmaError(`xz data unpacks to ${total} bytes, expected ≤ ${maxBytes}`);

  const output = arrayToFill(total);
  let at = HEADER_BYTES;
  let produced = 0;
  for (const record of records) {
    const block = output.subarray(0, produced + record.unpackedBytes);
    const stopped = decodeBlock(bytes.subarray(0, indexStart), at, block, produced, checkType, options.enough);
    if (stopped !== undefined) return output.subarray(0, stopped);
    at += roundUp4(record.unpaddedBytes);
    produced += record.unpackedBytes;
  }
  if (at !== indexStart) throw new LzmaError(`xz blocks end at byte ${at}, expected the index at ${indexStart}`);
  return output;
}

interface IndexRecord {
  readonly unpaddedBytes: number;
  readonly unpackedBytes: number;
}

/** Finds the index from the stream's footer: it says how large everything is, so memory is taken once. */
function readIndex(bytes: Uint8Array, view: DataView) {
  let end = bytes.length;
  while (end >= 4 && view.getUint32(end - 4, true) === 0) end -= 4;
  const footer = end - FOOTER_BYTES;
  if (footer < HEADER_BYTES || bytes[end - 2] !== 0x59 || bytes[end - 1] !== 0x5a) {
    throw new LzmaError(`xz data of ${bytes.length} bytes has no stream footer at its end, it may be truncated`);
  }
  if (view.getUint32(footer, true) !== crc32(bytes.subarray(footer + 4, footer + 10))) {
    throw new LzmaError("xz stream footer has a wrong checksum");
  }
  const checkType = bytes[footer + 9]! & 0xf;
  if (CHECK_BYTES[checkType] === undefined)
    throw new LzmaError(`xz check type is ${checkType}, expected 0, 1, 4 or 10`);
  const indexStart = footer - (view.getUint32(footer + 4, true) + 1) * 4;
  if (indexStart < HEADER_BYTES || bytes[indexStart] !== 0)
    throw new LzmaError("xz index is not where the footer says");
  if (view.getUint32(footer - 4, true) !== crc32(bytes.subarray(indexStart, footer - 4))) {
    throw new LzmaError("xz index has a wrong checksum");
  }
  const reader = new VarintReader(bytes.subarray(0, footer - 4), indexStart + 1);
  const count = reader.next();
  const records: IndexRecord[] = [];
  for (let i = 0; i < count; i++) records.push({ unpaddedBytes: reader.next(), unpackedBytes: reader.next() });
  return { records, indexStart, checkType };
}

/** @returns undefined when the block is complete, else how many bytes of `output` are valid */
function decodeBlock(
  bytes: Uint8Array,
  start: number,
  output: Uint8Array,
  produced: number,
  checkType: number,
  enough: XzOptions["enough"],
): number | undefined {
  const { headerBytes, filtered } = readBlockHeader(bytes, start);
  const decoder = new Lzma2Decoder(bytes, start + headerBytes, output, produced);
  const ask = enough && !filtered ? (all: Uint8Array, count: number) => enough(all.subarray(0, count)) : undefined;
  if (!decoder.decode(ask)) return decoder.produced;
  if (decoder.produced !== output.length) {
    throw new LzmaError(
      `xz block unpacked to ${decoder.produced - produced} bytes, expected ${output.length - produced}`,
    );
  }
  const block = output.subarray(produced);
  if (filtered) unfilterX86(block);
  const checkAt = roundUp4(decoder.position);
  const stored = bytes.subarray(checkAt, checkAt + CHECK_BYTES[checkType]!);
  if (Buffer.compare(stored, checksum(checkType, block)) !== 0) throw new LzmaError("xz block has a wrong checksum");
  return undefined;
}

function readBlockHeader(bytes: Uint8Array, start: number): { headerBytes: number; filtered: boolean } {
  const headerBytes = (bytes[start]! + 1) * 4;
  const end = start + headerBytes - 4;
  const stored = new DataView(bytes.buffer, bytes.byteOffset + end, 4).getUint32(0, true);
  if (stored !== crc32(bytes.subarray(start, end))) throw new LzmaError("xz block header has a wrong checksum");
  const flags = bytes[start + 1]!;
  const reader = new VarintReader(bytes.subarray(0, end), start + 2);
  if (flags & 0x40) reader.next();
  if (flags & 0x80) reader.next();
  const filters: number[] = [];
  for (let i = 0; i <= (flags & 3); i++) {
    const id = reader.next();
    const propertyBytes = reader.next();
    if (id === FILTER_X86 && propertyBytes !== 0)
      throw new LzmaError("xz x86 filter has a start offset, expected none");
    reader.position += propertyBytes;
    filters.push(id);
  }
  const known =
    filters.at(-1) === FILTER_LZMA2 && (filters.length === 1 || (filters.length === 2 && filters[0] === FILTER_X86));
  if (!known) {
    const ids = filters.map((id) => `0x${id.toString(16)}`).join(", ");
    throw new LzmaError(`xz filters are ${ids}, expected LZMA2 (0x21), alone or behind x86 (0x4)`);
  }
  return { headerBytes, filtered: filters.length === 2 };
}

function checksum(type: number, bytes: Uint8Array): Uint8Array {
  const out = Buffer.alloc(CHECK_BYTES[type]!);
  if (type === 1) out.writeUInt32LE(crc32(bytes));
  if (type === 10) return createHash("sha256").update(bytes).digest();
  if (type === 4) {
    const [lo, hi] = crc64(bytes);
    out.writeUInt32LE(lo, 0);
    out.writeUInt32LE(hi, 4);
  }
  return out;
}

/** Reads xz's variable-length integers, seven bits a byte, lowest first. */
class VarintReader {
  readonly #bytes: Uint8Array;
  position: number;

  constructor(bytes: Uint8Array, position: number) {
    this.#bytes = bytes;
    this.position = position;
  }

  next(): number {
    let value = 0;
    for (let shift = 0; shift < 49; shift += 7) {
      const byte = this.#bytes[this.position++];
      if (byte === undefined) throw new LzmaError("xz integer runs past its field");
      value += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw new LzmaError("xz integer is longer than 49 bits");
  }
}

const roundUp4 = (n: number): number => (n + 3) & ~3;
