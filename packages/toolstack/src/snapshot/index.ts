/** Domains as they were at a moment, while they ran on; and going on from there at once. */
import { SavedFile } from "../save/index.ts";
import { isSnapshot, SnapshotFile } from "./snapshot-file.ts";

export { SnapshotFrames, type SnapshotFramesHandle } from "./frames.ts";
export { type SnapshotReport, takeSnapshot } from "./take.ts";

/** Opens what `save` or `snapshot` wrote. @throws SaveError  it is neither, or damaged */
export function openSaved(path: string): Promise<SavedFile> {
  return isSnapshot(path) ? SnapshotFile.openSnapshot(path) : SavedFile.open(path);
}
