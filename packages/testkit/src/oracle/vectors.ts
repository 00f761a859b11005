/** Cases with their results on disk: single regressions as JSON, recorded vectors as one compressed file. */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { background, type Ignore, SCRATCH_BYTES, type TestCase, type TestResult } from "./case.ts";
import { BATCH_HEADER_BYTES, decodeBatch, decodeResults, encodeBatch, encodeResults } from "./codec.ts";

/** A case and what a real CPU made of it. */
export interface Vector {
  readonly testCase: TestCase;
  readonly expected: TestResult;
}
export interface Regression extends Vector {
  /** What was wrong when it was found, for the reader. */
  readonly note: string;
}

/** Typed arrays as tagged strings, so that the files can be read and compared by people. */
function toJson(_key: string, value: unknown): unknown {
  if (value instanceof Uint8Array) return `bytes:${Buffer.from(value).toString("hex")}`;
  if (value instanceof BigUint64Array) return `u64s:${[...value].map((v) => v.toString(16)).join(" ")}`;
  return typeof value === "bigint" ? `u64:${value.toString(16)}` : value;
}
function fromJson(_key: string, value: unknown): unknown {
  if (typeof value !== "string") return value;
  const [tag, text] = [value.slice(0, value.indexOf(":")), value.slice(value.indexOf(":") + 1)];
  if (tag === "bytes") return new Uint8Array(Buffer.from(text, "hex"));
  if (tag === "u64s") return BigUint64Array.from(text.split(" ").map((v) => BigInt(`0x${v}`)));
  return tag === "u64" ? BigInt(`0x${text}`) : value;
}

/** Saves a failure as JSON, named by its contents. @returns the path */
export function saveRegression(folder: string, regression: Regression): string {
  const text = `${JSON.stringify(regression, toJson, 1)}\n`;
  const path = join(folder, `${createHash("sha256").update(text).digest("hex").slice(0, 12)}.json`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, text);
  return path;
}

/** All regressions of a folder, in the order of their names; none if there is no folder. */
export function loadRegressions(folder: string): Regression[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  const files = names.filter((name) => name.endsWith(".json")).sort();
  return files.map((name) => JSON.parse(readFileSync(join(folder, name), "utf8"), fromJson) as Regression);
}

/**
 * Records vectors for machines that have no x86-64 processor.
 *
 * The file is gzip of: u32 bytes of cases, cases (a batch without its background), u32 bytes of results, results, and
 * JSON of what is not compared, one entry a case.
 */
export function recordVectors(path: string, cases: readonly TestCase[], results: readonly TestResult[]): void {
  const batch = encodeBatch(cases);
  const slim = Buffer.concat([
    batch.subarray(0, BATCH_HEADER_BYTES),
    batch.subarray(BATCH_HEADER_BYTES + SCRATCH_BYTES),
  ]);
  const encoded = encodeResults(cases, results);
  const extra = cases.map((c) => ({ ignore: c.ignore, instructions: c.instructions }));
  const parts = [u32(slim.length), slim, u32(encoded.length), encoded, Buffer.from(JSON.stringify(extra))];
  writeFileSync(path, gzipSync(Buffer.concat(parts), { level: 9 }));
}

/** Reads what `recordVectors` wrote. @throws on a damaged file */
export function loadVectors(path: string): Vector[] {
  const all = gunzipSync(readFileSync(path));
  const slim = all.subarray(4, 4 + all.readUInt32LE(0));
  const rest = all.subarray(4 + slim.length);
  const encoded = rest.subarray(4, 4 + rest.readUInt32LE(0));
  const extra = JSON.parse(rest.subarray(4 + encoded.length).toString()) as { ignore?: Ignore; instructions?: [] }[];
  const batch = Buffer.concat([slim.subarray(0, BATCH_HEADER_BYTES), background(), slim.subarray(BATCH_HEADER_BYTES)]);
  const cases = decodeBatch(batch).map((c, i) => ({ ...c, ...extra[i] }));
  const results = decodeResults(encoded, cases);
  if (results.length !== cases.length) throw new Error(`${path}: ${results.length} results of ${cases.length} cases`);
  return cases.map((testCase, i) => ({ testCase, expected: results[i] }));
}

const u32 = (value: number): Buffer => {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value);
  return out;
};
