/**
 * Counts what a domain uses and what is reserved for it, in records that follow each other without a gap: one every ten
 * seconds and one at each change of what is reserved. Records go to a spool in the domain's folder, from where the agent
 * takes them whenever it is there; between them, what was used so far is kept in a second file, for the case that this
 * process is killed. Periods are measured on the host's monotonic clock.
 */
import { closeSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { NO_TRAFFIC, type Traffic } from "../domain/counters.ts";

/** What is measured at one moment. Counts only grow; levels hold at that moment. */
export interface UsageReading {
  readonly vcpuRanNs: number;
  readonly vcpusReserved: number;
  readonly memoryBytes: number;
  readonly memoryReservedBytes: number;
  readonly diskStoredBytes: number;
  readonly diskReservedBytes: number;
  readonly traffic: Traffic;
}

/** What a domain used in a period, or in all of its life. Whole numbers. */
export interface UsageTotals extends Traffic {
  readonly wallNs: number;
  readonly vcpuUsedNs: number;
  readonly vcpuReservedNs: number;
  readonly memoryUsedByteSeconds: number;
  readonly memoryReservedByteSeconds: number;
  readonly diskStoredByteSeconds: number;
  readonly diskReservedByteSeconds: number;
}

export interface UsageRecord extends UsageTotals {
  /** Which run of which domain, and the how many-th record of it: the same record has the same key wherever it turns up. */
  readonly runId: string;
  readonly seq: number;
  /** Why the period ended. */
  readonly cause: string;
  /** On the host's monotonic clock. */
  readonly fromNs: number;
  readonly toNs: number;
  /** Milliseconds since the Unix epoch, for people. */
  readonly endedAtMs: number;
}

export const USAGE_FIELDS = [
  "wallNs",
  "vcpuUsedNs",
  "vcpuReservedNs",
  "memoryUsedByteSeconds",
  "memoryReservedByteSeconds",
  "diskStoredByteSeconds",
  "diskReservedByteSeconds",
  ...(Object.keys(NO_TRAFFIC) as (keyof Traffic)[]),
] as const satisfies readonly (keyof UsageTotals)[];

export const NO_USAGE = Object.fromEntries(USAGE_FIELDS.map((field) => [field, 0])) as unknown as UsageTotals;

export function addUsage(a: UsageTotals, b: UsageTotals): UsageTotals {
  return Object.fromEntries(USAGE_FIELDS.map((field) => [field, a[field] + b[field]])) as unknown as UsageTotals;
}

export const SPOOL_FILE = "usage.jsonl";
export const UNFINISHED_FILE = "usage.now";
/** The unfinished record is padded to this, so that one write replaces it. */
const UNFINISHED_BYTES = 1024;
const RECORD_MS = 10_000;
const UNFINISHED_MS = 1000;

const monotonicNs = (): number => Number(process.hrtime.bigint());

export class UsageMeter {
  readonly #runId: string;
  readonly #path: string;
  readonly #read: () => UsageReading;
  readonly #unfinished: number;
  readonly #timers: NodeJS.Timeout[];
  #spool: number;
  #seq = 0;
  #fromNs = monotonicNs();
  #last: UsageReading;
  #totals: UsageTotals = NO_USAGE;

  /** @param folder  where the two files are kept; what is there of an earlier process of this run is continued */
  constructor(folder: string, runId: string, read: () => UsageReading) {
    this.#runId = runId;
    this.#read = read;
    this.#last = read();
    this.#path = join(folder, SPOOL_FILE);
    this.#spool = openSync(this.#path, "a", 0o600);
    this.#unfinished = openSync(join(folder, UNFINISHED_FILE), "w", 0o600);
    this.record("start");
    this.#timers = [
      setInterval(() => this.record("time"), RECORD_MS),
      setInterval(() => this.#noteUnfinished(), UNFINISHED_MS),
    ];
  }

  /** Everything since the start, up to now. */
  get totals(): UsageTotals {
    return addUsage(this.#totals, this.#period(this.#read(), monotonicNs()));
  }

  /** Ends the current period. To be called before whatever changes what is reserved takes effect. */
  record(cause: string): void {
    const record = this.#next(cause);
    writeSync(this.#spool, `${JSON.stringify(record)}\n`);
    this.#seq++;
    this.#totals = addUsage(this.#totals, record);
    this.#fromNs = record.toNs;
    this.#last = this.#read();
    this.#noteUnfinished();
  }

  /** Forgets records that are kept elsewhere. */
  forget(upToSeq: number): void {
    const kept = readRecords(this.#path).filter(({ seq }) => seq > upToSeq);
    const next = `${this.#path}.next`;
    writeFileSync(next, kept.map((record) => `${JSON.stringify(record)}\n`).join(""), { mode: 0o600 });
    renameSync(next, this.#path);
    closeSync(this.#spool);
    this.#spool = openSync(this.#path, "a", 0o600);
  }

  /** Ends the last period. */
  close(cause: string): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.record(cause);
    closeSync(this.#spool);
    closeSync(this.#unfinished);
  }

  #next(cause: string): UsageRecord {
    const toNs = monotonicNs();
    return {
      runId: this.#runId,
      seq: this.#seq,
      cause,
      fromNs: this.#fromNs,
      toNs,
      endedAtMs: Date.now(),
      ...this.#period(this.#read(), toNs),
    };
  }

  #period(now: UsageReading, toNs: number): UsageTotals {
    const last = this.#last;
    const wallNs = toNs - this.#fromNs;
    const byteSeconds = (bytes: number): number => Math.round((bytes * wallNs) / 1e9);
    const traffic = Object.fromEntries(
      (Object.keys(NO_TRAFFIC) as (keyof Traffic)[]).map((key) => [key, now.traffic[key] - last.traffic[key]]),
    ) as unknown as Traffic;
    return {
      wallNs,
      vcpuUsedNs: Math.max(0, Math.round(now.vcpuRanNs - last.vcpuRanNs)),
      vcpuReservedNs: last.vcpusReserved * wallNs,
      // The balloon moves between readings; its way is taken for a straight line.
      memoryUsedByteSeconds: byteSeconds((last.memoryBytes + now.memoryBytes) / 2),
      memoryReservedByteSeconds: byteSeconds(last.memoryReservedBytes),
      diskStoredByteSeconds: byteSeconds((last.diskStoredBytes + now.diskStoredBytes) / 2),
      diskReservedByteSeconds: byteSeconds(last.diskReservedBytes),
      ...traffic,
    };
  }

  #noteUnfinished(): void {
    writeSync(this.#unfinished, JSON.stringify(this.#next("killed")).padEnd(UNFINISHED_BYTES), 0);
  }
}

/** The records of a spool; a last line that was not written whole is left out. */
export function readRecords(path: string): UsageRecord[] {
  return readText(path)
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as UsageRecord);
}

/**
 * All records of a domain whose process is gone: what it had not finished counts up to a second before its end at worst.
 * @param folder  where its meter kept its files
 */
export function lastRecords(folder: string): UsageRecord[] {
  const records = readRecords(join(folder, SPOOL_FILE));
  const text = readText(join(folder, UNFINISHED_FILE)).trim();
  if (text === "") return records;
  const unfinished = JSON.parse(text) as UsageRecord;
  const last = records.at(-1);
  // Killed between the two writes of `record`: the spool has it already.
  if (last !== undefined && unfinished.seq <= last.seq) return records;
  return last?.cause === "end" ? records : [...records, unfinished];
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}
