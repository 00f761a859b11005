/**
 * Whose the files are that this process makes. A domain's process with a user id of its own makes them for the user whose agent started it, whom
 * `XENO_FILE_OWNER` names: in the image store, caches and saved domains, others have to go on with them. Threads load this, and with it nothing heavy.
 */
import { existsSync, lchownSync, mkdirSync } from "node:fs";

/** User and group alike; undefined where files are this process's own. */
const owner = /^\d+$/.test(process.env["XENO_FILE_OWNER"] ?? "") ? Number(process.env["XENO_FILE_OWNER"]) : undefined;

/** The user for whom this process runs; undefined on a host without user ids. */
export const filesOwner = (): number | undefined => owner ?? process.getuid?.();

/** Gives a file that was made just now to its owner, unless its file system has none, or decides that itself. @throws Error  it is not there */
export function handOver(path: string): void {
  if (owner === undefined) return;
  try {
    lchownSync(path, owner, owner);
  } catch (error) {
    if (!["EPERM", "EINVAL", "ENOTSUP", "ENOSYS"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

/** Makes a folder with those above it, unless it is there. @param path  absolute, if it is to have an owner */
export function makeFolder(path: string, mode = 0o777): void {
  const made: string[] = [];
  if (owner !== undefined)
    for (let at = path; at.startsWith("/") && !existsSync(at); at = at.slice(0, at.lastIndexOf("/"))) made.push(at);
  mkdirSync(path, { recursive: true, mode });
  made.forEach(handOver);
}
