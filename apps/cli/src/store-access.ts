/** What the commands on images and disks share. */
import type { BlockStore } from "@xenoserver/devices/block/store.ts";
import type { RemoteImages } from "@xenoserver/storage/images/remote.ts";
import { InvalidArgumentError, Option } from "commander";

/** Loaded when they are needed, so that running a domain does not pay for them. */
export const storage = () => import("@xenoserver/storage/index.ts");

export async function openStore(source?: RemoteImages) {
  const { openDefaultStore } = await storage();
  return openDefaultStore(source);
}

const UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** A size such as 10G, in bytes. */
export function parseSize(written: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)$/i.exec(written);
  const bytes = match === null ? 0 : Number(match[1]) * UNITS[match[2]!.toUpperCase()]!;
  if (!(bytes >= 512)) throw new InvalidArgumentError("Expected a size in bytes, perhaps with K, M, G or T.");
  return Math.ceil(bytes / 512) * 512;
}

export const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
export const say = (line: string): void => void process.stdout.write(`${line}\n`);
export const progress = (line: string): void => void process.stderr.write(`xeno: ${line}\n`);

/** Shows how far something has come, if a person watches. */
export function meter(what: string): (part: number) => void {
  let shown = -1;
  return (part) => {
    const percent = Math.floor(part * 100);
    if (!process.stderr.isTTY || percent === shown) return;
    shown = percent;
    process.stderr.write(`\r${what} ${percent} %\x1b[K`);
  };
}

export function endMeter(): void {
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
}

export const formatOption = (formats: readonly string[]) =>
  new Option("--format <name>", "format of the file").choices([...formats]);

export async function newDisk(file: string, sizeBytes: number, format: "raw" | "qcow2"): Promise<BlockStore> {
  const { createQcow2, openImage, RandomAccessFile } = await storage();
  if (format === "qcow2") await createQcow2(file, { sizeBytes });
  else await (await RandomAccessFile.create(file, sizeBytes)).close();
  return openImage(file, { format, readOnly: false });
}

const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/**
 * Runs what takes long so that a signal ends it in order: `body` sees the abort, gives back what it has, and rejects.
 * @returns 0, or the status of the signal
 */
export async function interruptible(body: (signal: AbortSignal) => Promise<void>): Promise<number> {
  const aborter = new AbortController();
  let status = 0;
  const handlers = Object.entries(SIGNALS).map(([name, number]) => {
    const handler = (): void => {
      status = number;
      aborter.abort();
    };
    process.on(name, handler);
    return [name, handler] as const;
  });
  try {
    await body(aborter.signal);
  } catch (error) {
    if (status === 0) throw error;
    progress("interrupted, nothing was kept");
  } finally {
    for (const [name, handler] of handlers) process.off(name, handler);
  }
  return status;
}
