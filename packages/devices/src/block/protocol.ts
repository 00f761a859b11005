/**
 * blkif: requests and responses of a disk, as they lie in the ring.
 * @see xen/include/public/io/blkif.h
 */

export const BlkifOp = {
  READ: 0,
  WRITE: 1,
  WRITE_BARRIER: 2,
  FLUSH_DISKCACHE: 3,
  DISCARD: 5,
  INDIRECT: 6,
} as const;

export const BlkifRsp = { OKAY: 0, ERROR: -1, EOPNOTSUPP: -2 } as const;
export type BlkifStatus = (typeof BlkifRsp)[keyof typeof BlkifRsp];

export const MAX_SEGMENTS_PER_REQUEST = 11;
export const MAX_INDIRECT_PAGES_PER_REQUEST = 8;
/** Each is a grant reference (u32), first_sect and last_sect (u8 each) and two bytes of padding. */
export const SEGMENT_BYTES = 8;
export const SEGMENTS_PER_INDIRECT_PAGE = 4096 / SEGMENT_BYTES;
/** Sectors of the protocol, whatever those of the disk are. */
export const SECTOR_BYTES = 512;
export const SECTORS_PER_PAGE = 8;

export const VDISK_READONLY = 4;

/**
 * Where the fields lie in the guest's ABI: 64-bit numbers are aligned to eight bytes in one, to four in the other.
 *
 *     request    operation u8 · nr_segments u8 · handle u16 · id u64 · sector_number u64 · segments
 *     discard    operation u8 · flag u8 · handle u16 · id u64 · sector_number u64 · nr_sectors u64
 *     indirect   operation u8 · indirect_op u8 · nr_segments u16 · id u64 · sector_number u64 · handle u16 · references
 *     response   id u64 · operation u8 · status i16
 */
export interface BlkifLayout {
  readonly entryBytes: number;
  readonly responseBytes: number;
  readonly id: number;
  readonly sector: number;
  readonly segments: number;
  readonly discardCount: number;
  readonly indirectRefs: number;
}

/** By the value of the frontend's `protocol`. */
export const BLKIF_LAYOUTS: Readonly<Record<string, BlkifLayout>> = {
  "x86_64-abi": {
    entryBytes: 112,
    responseBytes: 16,
    id: 8,
    sector: 16,
    segments: 24,
    discardCount: 24,
    indirectRefs: 28,
  },
  "x86_32-abi": {
    entryBytes: 108,
    responseBytes: 12,
    id: 4,
    sector: 12,
    segments: 20,
    discardCount: 20,
    indirectRefs: 24,
  },
};

/** A run of sectors in a granted page. */
export interface Segment {
  readonly ref: number;
  readonly firstSector: number;
  /** Inclusive. */
  readonly lastSector: number;
}

interface RequestBase {
  /** What the response repeats: as in the ring, but for indirect requests the operation that they stand for. */
  readonly operation: number;
  readonly id: Uint8Array;
}

export type BlkifRequest = RequestBase &
  (
    | {
        readonly kind: "transfer";
        readonly write: boolean;
        readonly barrier: boolean;
        readonly sector: number;
        readonly segments: readonly Segment[];
      }
    | {
        readonly kind: "indirect";
        readonly write: boolean;
        readonly sector: number;
        readonly segmentCount: number;
        /** Pages that hold the segments. */
        readonly pages: readonly number[];
      }
    | { readonly kind: "flush" }
    | { readonly kind: "discard"; readonly sector: number; readonly sectorCount: number }
    | { readonly kind: "refused"; readonly status: BlkifStatus; readonly reason: string }
  );

/**
 * Reads a request, whatever its bytes.
 * @param bytes  our own copy of the ring's entry
 * @returns      kind "refused" for what breaks the rules that can be seen here; sectors are not compared with the disk's yet
 */
export function decodeRequest(bytes: Uint8Array, layout: BlkifLayout, maxIndirectSegments: number): BlkifRequest {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const operation = bytes[0]!;
  const base = { operation, id: bytes.slice(layout.id, layout.id + 8) };
  const refuse = (status: BlkifStatus, reason: string): BlkifRequest => ({ ...base, kind: "refused", status, reason });
  const sector = u64(view, layout.sector);
  switch (operation) {
    case BlkifOp.READ:
    case BlkifOp.WRITE:
    case BlkifOp.WRITE_BARRIER: {
      const count = bytes[1]!;
      const barrier = operation === BlkifOp.WRITE_BARRIER;
      if (count > MAX_SEGMENTS_PER_REQUEST || (count === 0 && !barrier)) {
        return refuse(BlkifRsp.ERROR, `${count} segments, expected 1 to ${MAX_SEGMENTS_PER_REQUEST}`);
      }
      const segments = decodeSegments(view, layout.segments, count);
      if (typeof segments === "string") return refuse(BlkifRsp.ERROR, segments);
      return { ...base, kind: "transfer", write: operation !== BlkifOp.READ, barrier, sector, segments };
    }
    case BlkifOp.INDIRECT: {
      const indirect = bytes[1]!;
      const segmentCount = view.getUint16(2, true);
      if (indirect !== BlkifOp.READ && indirect !== BlkifOp.WRITE) {
        return refuse(BlkifRsp.ERROR, `indirect operation ${indirect}, expected read or write`);
      }
      if (segmentCount === 0 || segmentCount > maxIndirectSegments) {
        return refuse(BlkifRsp.ERROR, `${segmentCount} indirect segments, expected 1 to ${maxIndirectSegments}`);
      }
      const pageCount = Math.ceil(segmentCount / SEGMENTS_PER_INDIRECT_PAGE);
      const pages = Array.from({ length: pageCount }, (_, n) => view.getUint32(layout.indirectRefs + n * 4, true));
      return {
        ...base,
        operation: indirect,
        kind: "indirect",
        write: indirect === BlkifOp.WRITE,
        sector,
        segmentCount,
        pages,
      };
    }
    case BlkifOp.FLUSH_DISKCACHE:
      return { ...base, kind: "flush" };
    case BlkifOp.DISCARD:
      return { ...base, kind: "discard", sector, sectorCount: u64(view, layout.discardCount) };
    default:
      return refuse(BlkifRsp.EOPNOTSUPP, `operation ${operation}, expected 0 to 6`);
  }
}

/**
 * Reads an array of segments.
 * @returns what is wrong with one of them, if anything is
 */
export function decodeSegments(view: DataView, at: number, count: number): Segment[] | string {
  const segments: Segment[] = [];
  for (let n = 0; n < count; n++) {
    const offset = at + n * SEGMENT_BYTES;
    const firstSector = view.getUint8(offset + 4);
    const lastSector = view.getUint8(offset + 5);
    if (lastSector >= SECTORS_PER_PAGE) return `segment ${n} ends at sector ${lastSector}, expected ≤ 7`;
    if (firstSector > lastSector) return `segment ${n} starts at sector ${firstSector}, expected ≤ ${lastSector}`;
    segments.push({ ref: view.getUint32(offset, true), firstSector, lastSector });
  }
  return segments;
}

/** Not exact above 2^53, which is beyond every disk. */
function u64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

export function encodeResponse(
  layout: BlkifLayout,
  { operation, id }: Pick<BlkifRequest, "operation" | "id">,
  status: number,
): Uint8Array {
  const bytes = new Uint8Array(layout.responseBytes);
  bytes.set(id);
  bytes[8] = operation;
  new DataView(bytes.buffer).setInt16(10, status, true);
  return bytes;
}
