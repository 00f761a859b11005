/** Files that are on the disk when we say so. */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, fsyncSync, openSync } from "node:fs";
import * as fs from "node:fs/promises";
import { dirname } from "node:path";
import { handOver } from "./file-owner.ts";

/** Replaces a file so that a crash leaves the old or the new one, and once this has settled, the new one. */
export async function replaceFile(path: string, content: string | Uint8Array): Promise<void> {
  const partial = `${path}.${randomUUID()}.partial`;
  const file = await fs.open(partial, "wx");
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  handOver(partial);
  await fs.rename(partial, path);
  await syncFolder(dirname(path));
}

/** Names that were made, changed or removed in a folder are on the disk afterwards. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await fs.open(path, "r");
  try {
    await folder.sync();
  } catch (error) {
    if (!isNoSuchThing(error)) throw error;
  } finally {
    await folder.close();
  }
}
/** The same for who must not let anything come between. */
export function syncFolderAtOnce(path: string): void {
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } catch (error) {
    if (!isNoSuchThing(error)) throw error;
  } finally {
    closeSync(folder);
  }
}
/** Some file systems cannot do that to folders. */
const isNoSuchThing = (error: unknown): boolean =>
  ["EINVAL", "EISDIR", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "");

/** Brings the whole file system that a folder is on to the disk: for many small files at once. */
export async function syncFileSystem(path: string): Promise<void> {
  const status = await new Promise<number | null>((resolve) => {
    const child = spawn("sync", ["-f", path], { stdio: "ignore" });
    child.on("error", () => resolve(-1));
    child.on("close", resolve);
  });
  if (status !== 0) await syncFolder(path);
}
