/** Reads the records of a file of translations. */
import { areRegions } from "@xenoserver/cpu/kept/described.ts";
import { RegionsWriter } from "@xenoserver/cpu/kept/known-regions.ts";
import { readInto } from "../read-into.ts";
import { decodeHead, HEAD_BYTES, isHeadWhole, type RecordHead } from "./record.ts";

/** A record as it was found. */
export interface FoundRecord {
  readonly at: number;
  readonly head: RecordHead;
}

/** The records of a file that count: of each module the last, in the order in which they were written. */
export function liveRecords(fd: number, sizeBytes: number): { live: FoundRecord[]; isWhole: boolean } {
  const byIdentity = new Map<number, FoundRecord>();
  let end = 0;
  for (const record of records(fd, sizeBytes)) {
    end = record.at + record.head.sizeBytes;
    byIdentity.delete(record.head.identity);
    byIdentity.set(record.head.identity, record);
  }
  return { live: [...byIdentity.values()], isWhole: end === sizeBytes };
}

function* records(fd: number, sizeBytes: number): Generator<FoundRecord> {
  // One for all: a new one for each record would be held until the collector comes.
  const bytes = new Uint8Array(HEAD_BYTES);
  for (let at = 0; at < sizeBytes; ) {
    const head = readInto(fd, bytes, at) === HEAD_BYTES ? decodeHead(bytes) : undefined;
    if (head === undefined || at + head.sizeBytes > sizeBytes) return;
    yield { at, head };
    at += head.sizeBytes;
  }
}

/** Reads records' regions to where they stay. @returns those records whose regions are whole, and these */
export function readRegions(fd: number, found: FoundRecord[]): { records: FoundRecord[]; regions: SharedArrayBuffer } {
  const writer = new RegionsWriter(found.reduce((sum, { head }) => sum + head.regionsBytes / 4, 0));
  const bytes = new Uint8Array(HEAD_BYTES);
  const records = found.filter(({ at, head }) => {
    const regions = writer.room(head.regionsBytes / 4);
    readInto(fd, bytes, at);
    readInto(fd, new Uint8Array(regions.buffer, regions.byteOffset, regions.byteLength), at + HEAD_BYTES);
    const isWhole = areWhole(head, bytes, regions);
    if (isWhole) writer.take(regions);
    return isWhole;
  });
  return { records, regions: writer.finish() };
}

/** @param bytes  a record's head @param regions  what follows it */
export const areWhole = (head: RecordHead, bytes: Uint8Array, regions: Int32Array): boolean =>
  isHeadWhole(head, bytes, regions) && areRegions(regions);

/** @returns as many as there are */
export function readBytes(fd: number, at: number, sizeBytes: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(sizeBytes);
  return bytes.subarray(0, readInto(fd, bytes, at));
}
