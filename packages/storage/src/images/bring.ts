import type { ChunkFolder } from "./chunk-folder.ts";
import type { ImageTree } from "./manifest.ts";

const CONCURRENT_CHUNKS = 32;

/**
 * Fetches every chunk of an image that is not here from the folder's source.
 * @throws StorageError  the source does not have one, or has it damaged
 */
export async function bringAll(tree: ImageTree, chunks: ChunkFolder): Promise<void> {
  const running = new Set<Promise<void>>();
  try {
    for await (const digest of tree.all()) {
      if (await chunks.has(digest)) continue;
      const bringing: Promise<void> = chunks.get(digest).then(() => void running.delete(bringing));
      bringing.catch(() => {});
      running.add(bringing);
      if (running.size >= CONCURRENT_CHUNKS) await Promise.race(running);
    }
    await Promise.all(running);
  } finally {
    await Promise.allSettled(running);
  }
}
