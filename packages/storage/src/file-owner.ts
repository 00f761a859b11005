/**
 * Whose the files are that this process makes. A domain's process with a user id of its own makes them for the user whose agent started it, whom
 * `XENO_FILE_OWNER` names: in the image store, caches and saved domains, others have to go on with them. Threads load this, and with it nothing heavy.
 */
import { lchownSync, mkdirSync } from "node:fs";
import { relative, sep } from "node:path";

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

/** Makes a folder with those above it, unless it is there. */
export function makeFolder(path: string, mode = 0o777): void {
  const first = mkdirSync(path, { recursive: true, mode });
  if (owner === undefined || first === undefined) return;
  handOver(first);
  let at = first;
  for (const name of relative(first, path).split(sep).filter(Boolean)) handOver((at = `${at}${sep}${name}`));
}
