import type { DomainMemory } from "@xenoserver/cpu";
import { LaterFrames, type LaterFramesHandle } from "../migrate/later/frames.ts";
import { SnapshotFrames, type SnapshotFramesHandle } from "./frames.ts";

/** What a thread needs to fetch frames that are not in memory yet, from wherever they come. */
export type FramesHandle = SnapshotFramesHandle | LaterFramesHandle;

/** Has this thread fetch frames. */
export function fetchFrames({ absent }: DomainMemory, handle: FramesHandle): void {
  absent.fetchFrom("path" in handle ? new SnapshotFrames(handle) : new LaterFrames(handle, absent));
}
