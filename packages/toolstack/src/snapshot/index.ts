/** Domains as they were at a moment, while they ran on; and going on from there at once. */
import { rmSync } from "node:fs";
import { openDefaultStore } from "@xenoserver/storage";
import { KEPT_DISK } from "../cfg/disk.ts";
import { SavedFile } from "../save/index.ts";
import { isSnapshot, SnapshotFile } from "./snapshot-file.ts";

export { SnapshotFrames, type SnapshotFramesHandle } from "./frames.ts";
export { type SnapshotProgress, type SnapshotReport, takeSnapshot } from "./take.ts";

/** Opens what `save` or `snapshot` wrote. @throws SaveError  it is neither, or damaged */
export function openSaved(path: string): Promise<SavedFile> {
  return isSnapshot(path) ? SnapshotFile.openSnapshot(path) : SavedFile.open(path);
}

/**
 * Removes a snapshot's file, and the names of the images that its disks were kept as: what goes on from them holds them by itself.
 * Nothing happens for a file that is none.
 */
export async function removeSnapshot(path: string): Promise<void> {
  const file = await openSaved(path).catch(() => undefined);
  rmSync(path, { force: true });
  if (file === undefined) return;
  file.close();
  file.closeFrames();
  const kept = (file.config.disks ?? []).filter(({ format, target }) => format === "image" && KEPT_DISK.test(target));
  if (kept.length === 0) return;
  const images = await openDefaultStore();
  for (const { target } of kept) await images.remove(target).catch(() => {});
}
