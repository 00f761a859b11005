/**
 * Regions as they are told to later runs: what code they were made from, by bytes and by the distance of its pages, and where they are entered. In
 * words of the host's byte order, so that they can be read where they lie.
 */
import type { CompiledRegion, Reach } from "../jit/region-compiler.ts";
import { hashBytes } from "./place-hash.ts";

/** Words of a region. Its lists follow: entries, distances of pages, pieces, then the pieces' bytes, padded to a word. */
export const Described = {
  /** Words in all. */
  length: 0,
  /** Which of its module's regions it is. */
  number: 1,
  /** The number of its module in an index; 0 as described. */
  module: 2,
  /** `hashBytes` of the pieces' bytes, one piece after the other from 0 on. */
  hash: 3,
  reach: 4,
  entries: 5,
  pages: 6,
  pieces: 7,
  lists: 8,
} as const;
/** Words of an entry: its place, and that place's `hashPlace`. */
export const ENTRY_WORDS = 2;
/** Words of a piece: its place, and how many bytes it has. */
export const PIECE_WORDS = 2;

const REACHES: readonly Reach[] = ["rest", "own", "unseen"];
export const reachOf = (number: number): Reach => REACHES[number] ?? "rest";

/** @returns the regions' words, one behind the other */
export function describeRegions(regions: readonly CompiledRegion[]): Int32Array<ArrayBuffer> {
  const all = regions.map(describe);
  const words = new Int32Array(all.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const one of all) {
    words.set(one, at);
    at += one.length;
  }
  return words;
}

function describe({ entries, reach, pages, pieces }: CompiledRegion, number: number): Int32Array {
  const head = [
    0,
    number,
    0,
    pieces.reduce((hash, { bytes }) => hashBytes(bytes, 0, bytes.length, hash), 0),
    REACHES.indexOf(reach),
    entries.length,
    pages.length,
    pieces.length,
    ...entries.flatMap(({ distance, offset, hash }) => [distance * 4096 + offset, hash]),
    ...pages.map(({ distance }) => distance),
    ...pieces.flatMap(({ distance, start, bytes }) => [distance * 4096 + start, bytes.length]),
  ];
  const sizeBytes = pieces.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const words = new Int32Array(head.length + Math.ceil(sizeBytes / 4));
  words.set(head);
  words[Described.length] = words.length;
  const rest = new Uint8Array(words.buffer, head.length * 4);
  let at = 0;
  for (const { bytes } of pieces) {
    rest.set(bytes, at);
    at += bytes.length;
  }
  return words;
}

/** Where a region's lists begin, and the last one ends. @param region  where it begins */
export function listsOf(words: Int32Array, region: number) {
  const entryList = region + Described.lists;
  const pageList = entryList + words[region + Described.entries] * ENTRY_WORDS;
  const pieceList = pageList + words[region + Described.pages];
  return { entryList, pageList, pieceList, pieceEnd: pieceList + words[region + Described.pieces] * PIECE_WORDS };
}

/** Whether words are regions one behind the other, whose lists lie within them. Thousands are looked at in a row: nothing is made for any. */
export function areRegions(words: Int32Array): boolean {
  let at = 0;
  while (at < words.length) {
    const length = words[at + Described.length];
    if (!(length > Described.lists && at + length <= words.length) || !isRegion(words, at, at + length)) return false;
    at += length;
  }
  return at > 0;
}

/** @param at  where it begins @param end  where the next one does */
function isRegion(words: Int32Array, at: number, end: number): boolean {
  const entries = words[at + Described.entries];
  const pages = words[at + Described.pages];
  const pieces = words[at + Described.pieces];
  if (Math.min(entries, pages, pieces) < 1 || Math.max(entries, pages, pieces) > end - at) return false;
  const pageList = at + Described.lists + entries * ENTRY_WORDS;
  const pieceList = pageList + pages;
  const bytes = pieceList + pieces * PIECE_WORDS;
  if (bytes > end) return false;
  for (let entry = at + Described.lists; entry < pageList; entry += ENTRY_WORDS) {
    if (!isAmong(words, pageList, pieceList, words[entry] >> 12)) return false;
  }
  let left = (end - bytes) * 4;
  for (let piece = pieceList; piece < bytes; piece += PIECE_WORDS) {
    const [place, size] = [words[piece], words[piece + 1]];
    left -= size;
    if (size < 1 || (place & 4095) + size > 4096 || !isAmong(words, pageList, pieceList, place >> 12)) return false;
  }
  return left >= 0 && left < 4;
}

function isAmong(words: Int32Array, from: number, to: number, word: number): boolean {
  for (let at = from; at < to; at++) if (words[at] === word) return true;
  return false;
}
