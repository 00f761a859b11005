/** Builds an image: from nothing, or from another with some chunks replaced. */
import { type Digest, HOLE, isZero } from "./chunk.ts";
import type { ChunkFolder } from "./chunk-folder.ts";
import { CHUNKS_PER_NODE, emptyNode, encodeManifest, encodeNode, type ImageTree, type Manifest } from "./manifest.ts";

export interface ImageContent {
  /** Of the new image. */
  readonly manifest: Manifest;
  /** Where chunks that are not named below come from. */
  readonly tree?: ImageTree;
  /** Which chunks of the disk may differ from the tree's, in ascending order. */
  readonly changed: Iterable<number>;
  /** The bytes of a chunk; the last of a disk may be shorter. Called again if the chunk got lost. */
  read(index: number): Promise<Uint8Array>;
}

const CONCURRENT_CHUNKS = 8;

export class WrittenImage {
  readonly digest: Digest;
  readonly #chunks: ChunkFolder;
  /** What was put, with how to put it again. */
  readonly #put: ReadonlyMap<Digest, () => Promise<Uint8Array>>;

  private constructor(chunks: ChunkFolder, digest: Digest, put: ReadonlyMap<Digest, () => Promise<Uint8Array>>) {
    this.#chunks = chunks;
    this.digest = digest;
    this.#put = put;
  }

  /** Puts all chunks. They belong to nobody yet: name the image, then call `secure`. */
  static async write(chunks: ChunkFolder, content: ImageContent): Promise<WrittenImage> {
    const put = new Map<Digest, () => Promise<Uint8Array>>();
    const nodes = [...content.manifest.nodes];
    const { tree } = content;
    for (const [nodeIndex, indices] of byNode(content.changed)) {
      const node = tree === undefined ? emptyNode() : [...(await tree.node(nodeIndex))];
      await forEachOf(indices, CONCURRENT_CHUNKS, async (index) => {
        const bytes = await content.read(index);
        const digest = isZero(bytes) ? HOLE : await chunks.put(bytes);
        node[index % CHUNKS_PER_NODE] = digest;
        if (digest !== HOLE) put.set(digest, () => content.read(index));
      });
      if (node.every((digest) => digest === HOLE)) {
        nodes[nodeIndex] = HOLE;
        continue;
      }
      const bytes = encodeNode(node);
      nodes[nodeIndex] = await chunks.put(bytes);
      put.set(nodes[nodeIndex]!, async () => bytes);
    }
    const bytes = encodeManifest({ ...content.manifest, nodes });
    const digest = await chunks.put(bytes);
    put.set(digest, async () => bytes);
    return new WrittenImage(chunks, digest, put);
  }

  /**
   * Makes sure that nothing of the image got lost before it was named. A collection that looked for names before that may have
   * thrown chunks away: those that are in the trash are taken out, those that are gone are put again. Later ones see the name.
   */
  async secure(): Promise<void> {
    await forEachOf([...this.#put], CONCURRENT_CHUNKS, async ([digest, again]) => {
      while (!(await this.#chunks.secure(digest))) await this.#chunks.put(await again());
    });
  }
}

function byNode(changed: Iterable<number>): Map<number, number[]> {
  const nodes = new Map<number, number[]>();
  for (const index of changed) {
    const node = Math.floor(index / CHUNKS_PER_NODE);
    const indices = nodes.get(node);
    if (indices === undefined) nodes.set(node, [index]);
    else indices.push(index);
  }
  return nodes;
}

async function forEachOf<T>(items: readonly T[], concurrent: number, body: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) await body(items[next++]!);
  };
  await Promise.all(Array.from({ length: Math.min(concurrent, items.length) }, worker));
}
