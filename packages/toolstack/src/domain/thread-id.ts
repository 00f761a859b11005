import { readlinkSync } from "node:fs";

/** The system's number of the thread that asks; undefined where it does not tell. */
export function threadId(): number | undefined {
  try {
    return Number(readlinkSync("/proc/thread-self").split("/").at(-1));
  } catch {
    return undefined;
  }
}
