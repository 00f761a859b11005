/** e2fsprogs as the judge of file systems that we write. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { BlockStore } from "@xenoserver/devices/block/store.ts";
import { copyDisk } from "../copy.ts";
import { RandomAccessFile } from "../raw/file.ts";
import { RawStore } from "../raw/raw-store.ts";

const run = promisify(execFile);
const env = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`, LC_ALL: "C" };

/** @returns why the tools cannot be used, as a test skips with it */
export async function missingE2fsprogs(): Promise<string | undefined> {
  return run("e2fsck", ["-V"], { env }).then(
    () => undefined,
    () => "e2fsck is missing (Debian package e2fsprogs)",
  );
}

/** A disk in a file of its own while `use` runs. */
export async function withDiskFile<T>(
  disk: Pick<BlockStore, "info" | "read">,
  use: (path: string) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "xeno-ext4-"));
  const path = join(folder, "disk.img");
  try {
    await (await RandomAccessFile.create(path, disk.info.sizeBytes)).close();
    const target = await RawStore.open(path, { readOnly: false });
    await copyDisk(disk as BlockStore, target);
    await target.close();
    return await use(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @throws Error  with what e2fsck found wrong */
export async function checkExt4(path: string): Promise<void> {
  await run("e2fsck", ["-fn", path], { env }).catch((error: { stdout?: string; stderr?: string }) => {
    throw new Error(`e2fsck: ${error.stdout}${error.stderr}`);
  });
}

/** Asks debugfs, e.g. "stat /etc/passwd". */
export async function debugfs(path: string, request: string): Promise<string> {
  return (await run("debugfs", ["-R", request, path], { env, maxBuffer: 1 << 26, encoding: "latin1" })).stdout;
}
