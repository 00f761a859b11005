/**
 * The header of a qcow2 image, versions 2 and 3. All numbers are big-endian.
 * @see docs/interop/qcow2.txt of QEMU
 */
import { StorageError } from "../error.ts";

export const QCOW2_MAGIC = 0x514649fb;
const V2_HEADER_BYTES = 72;
const V3_HEADER_BYTES = 104;
const MIN_CLUSTER_BITS = 9;
const MAX_CLUSTER_BITS = 21;
const MAX_L1_BYTES = 32 << 20;
const MAX_REFCOUNT_TABLE_BYTES = 8 << 20;
const MAX_NAME_BYTES = 1023;

const Incompatible = { dirty: 1, corrupt: 2, externalData: 4, compressionType: 8, extendedL2: 16 } as const;
const Extension = { end: 0, backingFormat: 0xe2792aca } as const;

export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly sizeBytes: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  /** A refcount is 2 to the power of this many bits wide. */
  readonly refcountOrder: number;
  readonly backingFile?: string;
  readonly backingFormat?: string;
  readonly compression: "deflate" | "zstd";
  /** Refcounts may be wrong: its last user did not close it. */
  readonly dirty: boolean;
  readonly corrupt: boolean;
}

/** Where fields lie that are changed in place. */
export const HeaderField = {
  size: 24,
  l1Entries: 36,
  l1Offset: 40,
  refcountTableOffset: 48,
  refcountTableClusters: 56,
  autoclear: 88,
};

/** Bytes that `parseHeader` may look at. */
export const HEADER_ROOM = 1 << MAX_CLUSTER_BITS;

/**
 * Reads and checks a header.
 * @param bytes      the file's beginning, `HEADER_ROOM` bytes or the whole file
 * @param fileBytes  the file's length
 * @param name       what messages call the image
 * @throws StorageError  it is no qcow2 image, one that cannot be read here, or its numbers contradict one another
 */
export function parseHeader(bytes: Uint8Array, fileBytes: number, name: string): Qcow2Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const refuse = (what: string): never => {
    throw new StorageError(`${name}: ${what}`);
  };
  if (bytes.length < V2_HEADER_BYTES || view.getUint32(0) !== QCOW2_MAGIC) return refuse("is no qcow2 image");
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) return refuse(`has version ${version} of qcow2, expected 2 or 3`);
  if (version === 3 && bytes.length < V3_HEADER_BYTES) return refuse("ends within its header");
  const u64 = (at: number): number => view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);

  const clusterBits = view.getUint32(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    return refuse(`has clusters of 2^${clusterBits} bytes, expected 2^${MIN_CLUSTER_BITS} to 2^${MAX_CLUSTER_BITS}`);
  }
  const cluster = 2 ** clusterBits;
  const encryption = view.getUint32(32);
  if (encryption !== 0) return refuse(`is encrypted (method ${encryption}), which is not supported`);

  const incompatible = version === 3 ? u64(72) : 0;
  if (incompatible & Incompatible.externalData)
    return refuse("keeps its data in another file, which is not supported yet");
  if (incompatible & Incompatible.extendedL2) return refuse("has extended L2 entries, which are not supported yet");
  if (incompatible > 31)
    return refuse(`has incompatible features 0x${incompatible.toString(16)}, expected none above 0x1f`);
  const headerBytes = version === 3 ? view.getUint32(100) : V2_HEADER_BYTES;
  if (
    version === 3 &&
    (headerBytes < V3_HEADER_BYTES || headerBytes % 8 !== 0 || headerBytes > Math.min(cluster, bytes.length))
  ) {
    return refuse(`has a header of ${headerBytes} bytes, expected a multiple of 8 from ${V3_HEADER_BYTES} up`);
  }
  const compressionType = incompatible & Incompatible.compressionType && headerBytes > 104 ? bytes[104]! : 0;
  if (compressionType > 1) return refuse(`is compressed by method ${compressionType}, expected 0 or 1`);
  const refcountOrder = version === 3 ? view.getUint32(96) : 4;
  if (refcountOrder > 6) return refuse(`has refcounts of 2^${refcountOrder} bits, expected at most 2^6`);

  const sizeBytes = u64(24);
  if (!Number.isSafeInteger(sizeBytes)) return refuse(`is ${sizeBytes} bytes, expected less than 2^53`);
  const l1Entries = view.getUint32(36);
  const needed = Math.ceil(sizeBytes / (cluster * (cluster / 8)));
  if (l1Entries < needed)
    return refuse(`has ${l1Entries} entries in its L1 table, expected ${needed} for its ${sizeBytes} bytes`);
  if (l1Entries * 8 > MAX_L1_BYTES)
    return refuse(`has ${l1Entries} entries in its L1 table, expected ≤ ${MAX_L1_BYTES / 8}`);
  const table = (what: string, offset: number): number => {
    if (offset % cluster === 0 && offset > 0 && offset < fileBytes) return offset;
    return refuse(`has its ${what} at 0x${offset.toString(16)}, expected a cluster within its ${fileBytes} bytes`);
  };
  const l1Offset = l1Entries === 0 ? 0 : table("L1 table", u64(40));
  const refcountTableClusters = view.getUint32(56);
  if (refcountTableClusters === 0 || refcountTableClusters * cluster > MAX_REFCOUNT_TABLE_BYTES) {
    return refuse(
      `has a refcount table of ${refcountTableClusters} clusters, expected 1 to ${MAX_REFCOUNT_TABLE_BYTES / cluster}`,
    );
  }
  const refcountTableOffset = table("refcount table", u64(48));

  const nameOffset = u64(8);
  const nameBytes = view.getUint32(16);
  if (nameOffset !== 0 && (nameBytes > MAX_NAME_BYTES || nameOffset + nameBytes > Math.min(cluster, bytes.length))) {
    return refuse(
      `has a backing file's name of ${nameBytes} bytes at ${nameOffset}, expected ≤ ${MAX_NAME_BYTES} within its first cluster`,
    );
  }
  const backingFile = nameOffset === 0 ? "" : text(bytes, nameOffset, nameBytes);
  const end = nameOffset === 0 ? Math.min(cluster, bytes.length) : nameOffset;
  const backingFormat = readBackingFormat(view, bytes, headerBytes, end, refuse);
  return {
    version,
    clusterBits,
    sizeBytes,
    l1Entries,
    l1Offset,
    refcountTableOffset,
    refcountTableClusters,
    refcountOrder,
    ...(backingFile !== "" && { backingFile }),
    ...(backingFormat !== undefined && { backingFormat }),
    compression: compressionType === 1 ? "zstd" : "deflate",
    dirty: (incompatible & Incompatible.dirty) !== 0,
    corrupt: (incompatible & Incompatible.corrupt) !== 0,
  };
}

const text = (bytes: Uint8Array, at: number, length: number): string =>
  Buffer.from(bytes.subarray(at, at + length)).toString("utf8");

/** Extensions follow the header: u32 type, u32 length, data padded to eight bytes; type 0 ends them. */
function readBackingFormat(
  view: DataView,
  bytes: Uint8Array,
  start: number,
  end: number,
  refuse: (what: string) => never,
): string | undefined {
  for (let at = start; at + 8 <= end; ) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === Extension.end) return undefined;
    if (at + 8 + length > end)
      return refuse(`has a header extension of ${length} bytes at ${at}, expected it to end by ${end}`);
    if (type === Extension.backingFormat) return text(bytes, at + 8, length);
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return undefined;
}

/** The first cluster of a new image, version 3, with refcounts of 16 bits. */
export function encodeHeader(header: {
  readonly clusterBits: number;
  readonly sizeBytes: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly backingFile?: string | undefined;
  readonly backingFormat?: string | undefined;
}): Uint8Array {
  const bytes = new Uint8Array(2 ** header.clusterBits);
  const view = new DataView(bytes.buffer);
  const put64 = (at: number, value: number): void => view.setBigUint64(at, BigInt(value));
  view.setUint32(0, QCOW2_MAGIC);
  view.setUint32(4, 3);
  view.setUint32(20, header.clusterBits);
  put64(HeaderField.size, header.sizeBytes);
  view.setUint32(HeaderField.l1Entries, header.l1Entries);
  put64(HeaderField.l1Offset, header.l1Offset);
  put64(HeaderField.refcountTableOffset, header.refcountTableOffset);
  view.setUint32(HeaderField.refcountTableClusters, header.refcountTableClusters);
  view.setUint32(96, 4);
  view.setUint32(100, V3_HEADER_BYTES);
  let at = V3_HEADER_BYTES;
  if (header.backingFile !== undefined && header.backingFormat !== undefined) {
    const format = Buffer.from(header.backingFormat);
    view.setUint32(at, Extension.backingFormat);
    view.setUint32(at + 4, format.length);
    bytes.set(format, at + 8);
    at += 8 + Math.ceil(format.length / 8) * 8;
  }
  at += 8;
  if (header.backingFile !== undefined) {
    const name = Buffer.from(header.backingFile);
    put64(8, at);
    view.setUint32(16, name.length);
    bytes.set(name, at);
  }
  return bytes;
}
