/** Files of this user's own cache, which are used only if nobody else may have written them. Threads load this, and with it nothing heavy of Node's. */
import { closeSync, lstatSync, openSync, renameSync, rmSync, type Stats, writeSync } from "node:fs";
import { filesOwner, handOver, makeFolder } from "@xenoserver/storage/file-owner.ts";

/** Whether only this user may have written it. */
export const isUsersOwn = ({ uid, mode }: Stats): boolean => uid === filesOwner() && (mode & 0o22) === 0;

/** @throws Error  it is not there */
export function isOwn(path: string): boolean {
  const found = lstatSync(path);
  return found.isFile() && isUsersOwn(found);
}

export function makeFolderOf(path: string): void {
  makeFolder(path.slice(0, path.lastIndexOf("/")), 0o700);
}

/**
 * Puts a file in its place whole, or leaves what is there.
 * @param parts  one behind the other, each asked for when those before are written
 * @throws Error  the file system does not take it; nothing is left of it then
 */
export function replaceFile(path: string, parts: Iterable<Uint8Array>): void {
  const part = `${path}.${process.pid}.part`;
  const file = openSync(part, "wx", 0o600);
  try {
    for (const bytes of parts) for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
    handOver(part);
    renameSync(part, path);
  } catch (error) {
    rmSync(part, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
}
