/**
 * Garbage collection, while others make, clone and commit images.
 *
 *     collector                                    whoever names an image
 *     1  look at all names, mark their chunks      a  put chunks
 *     2  move unmarked chunks into the trash       b  name the image, durably
 *     3  raise the generation                      c  make sure that its chunks are there:
 *     4  mark again; what is marked leaves            take them out of the trash, or put them again
 *        the trash
 *     5  delete what lay in the trash for long
 *
 * A chunk that is named is not lost: if b comes before 4, then 4 marks it, and 5 leaves it alone. If b comes after 4, then c
 * comes after 4 as well, and finds the chunk in its place, in the trash, or gone; taking out of the trash and deleting from it
 * are both atomic, so one of them wins. A clone has no chunks to put again: it looks at the generation before it reads a name
 * and after b; if that has not changed, then every collection still to come to 4 sees the clone, and those past it marked the
 * name. If it has changed, the clone looks for each of its chunks.
 */
import { StorageError } from "../error.ts";
import type { Digest } from "./chunk.ts";
import type { ChunkFolder } from "./chunk-folder.ts";
import { ImageTree } from "./manifest.ts";

export interface CollectOptions {
  /** How long a chunk lies in the trash before it is deleted. */
  readonly graceMs: number;
}

export interface Collected {
  readonly kept: number;
  /** Moved to the trash this time. */
  readonly trashed: number;
  readonly deleted: number;
  readonly deletedBytes: number;
}

/** A manifest that has a name, an overlay, or somebody who is about to give it one. */
export interface Root {
  readonly digest: Digest;
  /** False for an image that may still be under way: what it lacks is put again by whoever writes it. */
  readonly isWhole: boolean;
}

export interface Roots {
  list(): Promise<readonly Root[]>;
  raiseGeneration(): Promise<void>;
}

/** @throws StorageError  an image is damaged, so that nobody can say what it needs: then nothing is thrown away */
export async function collect(chunks: ChunkFolder, roots: Roots, options: CollectOptions): Promise<Collected> {
  const { graceMs } = options;
  const marked = await mark(chunks, roots);
  let trashed = 0;
  for await (const digest of chunks.list()) {
    if (!marked.has(digest) && (await chunks.discard(digest))) trashed++;
  }
  await roots.raiseGeneration();
  const again = await mark(chunks, roots);
  let [deleted, deletedBytes] = [0, 0];
  const oldMs = Date.now() - graceMs;
  for await (const { digest, sinceMs } of chunks.listTrash()) {
    if (again.has(digest)) await chunks.restore(digest);
    else if (sinceMs <= oldMs) {
      const freed = await chunks.destroy(digest);
      if (freed === undefined) continue;
      deleted++;
      deletedBytes += freed;
    }
  }
  await chunks.sweepPartial(oldMs);
  return { kept: again.size, trashed, deleted, deletedBytes };
}

async function mark(chunks: ChunkFolder, roots: Roots): Promise<Set<Digest>> {
  const marked = new Set<Digest>();
  for (const { digest, isWhole } of await roots.list()) {
    try {
      const tree = await ImageTree.open(chunks, digest);
      for await (const chunk of tree.all()) marked.add(chunk);
    } catch (error) {
      if (isWhole || !(error instanceof StorageError)) throw error;
    }
  }
  return marked;
}
