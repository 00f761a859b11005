/** The folder where fetched and built guests are kept between runs. */
import { mkdirSync, renameSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** `$XDG_CACHE_HOME/xenoserver`, or `~/.cache/xenoserver`. */
export function cacheDir(env: NodeJS.ProcessEnv = process.env): string {
  return join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "xenoserver");
}

/** Writes a file so that another process sees it whole or not at all; makes its folder. */
export function writeWhole(path: string, bytes: Uint8Array | string): void {
  mkdirSync(dirname(path), { recursive: true });
  const partial = `${path}.${process.pid}.partial`;
  writeFileSync(partial, bytes);
  renameSync(partial, path);
}

/** A lock this old belongs to a process that is gone. */
const STALE_LOCK_MS = 300_000;
const LOCK_POLL_MS = 200;

/** Runs `body` while no other process runs one under the same lock, which is a folder that exists meanwhile. */
export async function withLock<T>(lock: string, body: () => Promise<T>): Promise<T> {
  mkdirSync(dirname(lock), { recursive: true });
  while (!tryLock(lock)) await sleep(LOCK_POLL_MS);
  try {
    return await body();
  } finally {
    rmdirSync(lock);
  }
}

function tryLock(lock: string): boolean {
  try {
    mkdirSync(lock);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  const age = Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
  if (age > STALE_LOCK_MS) rmdirSync(lock);
  return false;
}
