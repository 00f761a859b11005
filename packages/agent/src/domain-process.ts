/** A domain's process from outside: started, reached, and what it leaves in its folder. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ControlClient } from "@xenoserver/toolstack/control/index.ts";
import {
  FAILED_FILE,
  LOG_FILE,
  type ProcessSpec,
  SOCKET_FILE,
  SPEC_FILE,
} from "@xenoserver/toolstack/control/process-folder.ts";
import { findProcess } from "./spawn.ts";

const MAX_LOG_BYTES = 1 << 20;
export const POLL_MS = 20;
/** How often a process that was just started is looked for before it counts as gone. */
const MAX_UNSEEN_POLLS = 250;
/** The same for one that was seen before. */
const LOST_POLLS = 25;

/** The end of a process that could not tell it. */
export interface LostEnd {
  readonly reason: "killed" | "failed";
  readonly detail?: string;
  /** Seconds since the Unix epoch. */
  readonly endedAt: number;
}

/** @param start  has a process serve the folder */
export function startProcess<T>(folder: string, spec: ProcessSpec, start: (folder: string) => T): T {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  writeFileSync(join(folder, SPEC_FILE), JSON.stringify(spec), { mode: 0o600 });
  return start(folder);
}

/**
 * Waits until a domain's process answers.
 * @param isNew  it was started just now, and may not be seen yet
 * @returns      how it ended, if it did or never began; it is gone then
 */
export async function reachProcess(folder: string, isNew: boolean): Promise<ControlClient | LostEnd> {
  let unseen = isNew ? MAX_UNSEEN_POLLS : 0;
  for (;;) {
    const client = await ControlClient.connect(join(folder, SOCKET_FILE)).catch(() => undefined);
    if (client !== undefined) return client;
    const failed = readJson<{ message: string }>(join(folder, FAILED_FILE));
    const alive = findProcess(folder) !== undefined;
    if (failed === undefined && (alive || unseen-- > 0)) {
      // While the shell becomes its program nothing is seen, for longer on a busy host; that passes.
      if (alive) unseen = LOST_POLLS;
      await sleep(POLL_MS);
      continue;
    }
    const endedAt = Math.floor(Date.now() / 1000);
    while (findProcess(folder) !== undefined) await sleep(POLL_MS);
    await (await import("@xenoserver/toolstack/migrate/left-list.ts")).removeLeft(folder);
    return failed === undefined ? { reason: "killed", endedAt } : { reason: "failed", detail: failed.message, endedAt };
  }
}

/** Of a long log, its end. */
export function readLog(folder: string): string {
  const path = join(folder, LOG_FILE);
  const bytes = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
  return bytes.subarray(-MAX_LOG_BYTES).toString();
}

export function readJson<T>(path: string): T | undefined {
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as T) : undefined;
}
