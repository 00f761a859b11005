/** Reads the records of a file of translations. */
import { fstatSync } from "node:fs";
import { areRegions } from "@xenoserver/cpu/kept/described.ts";
import { RegionsWriter } from "@xenoserver/cpu/kept/known-regions.ts";
import { readInto } from "../read-into.ts";
import { decodeHead, HEAD_BYTES, isHeadWhole, type RecordHead } from "./record.ts";

/** Room for most records' heads and regions. */
const ROOM_BYTES = 16 * 1024;

/** A record as it was found. */
export interface FoundRecord {
  readonly at: number;
  readonly head: RecordHead;
}

/** The records of a file that count: of each module the last, in the order in which they were written. */
export function liveRecords(fd: number): { records: FoundRecord[]; isWhole: boolean } {
  const sizeBytes = fstatSync(fd).size;
  const byIdentity = new Map<number, FoundRecord>();
  let end = 0;
  for (const record of allRecords(fd, sizeBytes)) {
    end = record.at + record.head.sizeBytes;
    byIdentity.delete(record.head.identity);
    byIdentity.set(record.head.identity, record);
  }
  return { records: [...byIdentity.values()], isWhole: end === sizeBytes };
}

// Here and below one room for all: a new one for each of thousands would be held until the collector comes.
function* allRecords(fd: number, sizeBytes: number): Generator<FoundRecord> {
  const room = new Uint8Array(HEAD_BYTES);
  for (let at = 0; at < sizeBytes; ) {
    const head = readInto(fd, room, at) === HEAD_BYTES ? decodeHead(room) : undefined;
    if (head === undefined || at + head.sizeBytes > sizeBytes) return;
    yield { at, head };
    at += head.sizeBytes;
  }
}

/** Reads records' regions. @returns those records whose regions are whole, and these by the records' numbers */
export function readRegions(fd: number, found: FoundRecord[]): { records: FoundRecord[]; regions: SharedArrayBuffer } {
  const writer = new RegionsWriter(found.reduce((sum, { head }) => sum + head.regionsBytes / 4, 0));
  const room = new Uint8Array(ROOM_BYTES);
  const records = found.filter(({ at, head }) => {
    const sizeBytes = HEAD_BYTES + head.regionsBytes;
    const bytes = sizeBytes > ROOM_BYTES ? new Uint8Array(sizeBytes) : room.subarray(0, sizeBytes);
    const regions = new Int32Array(bytes.buffer, HEAD_BYTES, head.regionsBytes / 4);
    const isWhole = readInto(fd, bytes, at) === sizeBytes && isHeadWhole(head, bytes) && areRegions(regions);
    if (isWhole) writer.add(regions);
    return isWhole;
  });
  return { records, regions: writer.finish() };
}

/** @returns as many as there are */
export function readBytes(fd: number, at: number, sizeBytes: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(sizeBytes);
  return bytes.subarray(0, readInto(fd, bytes, at));
}
