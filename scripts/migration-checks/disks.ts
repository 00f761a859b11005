/** Disks of domains on images: what they are made of, and how they are judged when their domain has ended. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, ftruncateSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { ImageStore, openDefaultStore, openRemote } from "@xenoserver/storage";

const PIECE_BYTES = 1 << 20;

/** Makes an image of zeros. @returns its name */
export async function importEmpty(storeFolder: string, sizeBytes: number): Promise<string> {
  const name = "empty:1";
  const store = await ImageStore.open(storeFolder);
  await store.import(name, {
    info: { sizeBytes, readOnly: true },
    read: async (_at, into) => into.forEach((part) => part.fill(0)),
    isHole: () => true,
  });
  return name;
}

/** Brings an image of the user's store into another. @param folder  empty, for its way */
export async function bringImage(name: string, storeFolder: string, folder: string): Promise<void> {
  const way = await openRemote(folder);
  await (await openDefaultStore()).push(name, way);
  await (await ImageStore.open(storeFolder, way)).pull(name, way, true);
  rmSync(folder, { recursive: true });
}

/** What a disk is at rest, by the host. */
export interface DiskJudgement {
  readonly sha256: string;
  /** What e2fsck, which changes nothing, has against its file system. */
  readonly fault: string | undefined;
}

/** @param folder  for a copy of the disk, for a while @throws StorageError  there is no such disk, or it is in use */
export async function judgeDisk(storeFolder: string, disk: string, folder: string): Promise<DiskJudgement> {
  const overlay = await (await ImageStore.open(storeFolder)).openOverlay(disk);
  const path = join(folder, disk);
  const copy = openSync(path, "w");
  const hash = createHash("sha256");
  const piece = new Uint8Array(PIECE_BYTES);
  try {
    const { sizeBytes } = overlay.info;
    ftruncateSync(copy, sizeBytes);
    for (let at = 0; at < sizeBytes; at += PIECE_BYTES) {
      const bytes = piece.subarray(0, Math.min(PIECE_BYTES, sizeBytes - at));
      await overlay.read(at, [bytes]);
      hash.update(bytes);
      if (bytes.some((byte) => byte !== 0)) writeSync(copy, bytes, 0, bytes.length, at);
    }
    const { status, stdout, stderr, error } = spawnSync("e2fsck", ["-fn", path], { encoding: "utf8" });
    const fault = status === 0 ? undefined : (error?.message ?? `${stdout}${stderr}`.trim().slice(-600));
    return { sha256: hash.digest("hex"), fault };
  } finally {
    closeSync(copy);
    rmSync(path);
    await overlay.close();
  }
}
