/**
 * Manifests: what an image consists of. A manifest is a chunk too; it names nodes, which are chunks that name the chunks of
 * data. So an image that differs little from another shares most of its nodes with it.
 *
 *     manifest   JSON: { version, sizeBytes, chunkBytes, nodes: [digest or ""], extras }
 *     node       512 digests of 32 bytes each; zeros stand for a chunk of zeros
 */
import { StorageError } from "../error.ts";
import { type Digest, HOLE, isDigest, MAX_CHUNK_BYTES } from "./chunk.ts";
import type { ChunkFolder } from "./chunk-folder.ts";

export const CHUNK_BYTES = 64 << 10;
export const CHUNKS_PER_NODE = 512;
const DIGEST_BYTES = 32;
const NODE_BYTES = CHUNKS_PER_NODE * DIGEST_BYTES;
const VERSION = 1;

export interface Manifest {
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly nodes: readonly Digest[];
  readonly extras?: ImageExtras;
}

/** What comes with a disk that it is an image of. */
export interface ImageExtras {
  /** Files beside the disk, such as the kernel that boots it. */
  readonly files?: Readonly<Record<string, AttachedFile>>;
  /** What there is to know about the image, for people and for whoever boots it. */
  readonly about?: Readonly<Record<string, string>>;
}

/** A file that is kept as an image of its own, filled up to whole sectors. */
export interface AttachedFile {
  readonly sizeBytes: number;
  readonly digest: Digest;
}

export function emptyManifest(sizeBytes: number, chunkBytes = CHUNK_BYTES): Manifest {
  const count = Math.ceil(sizeBytes / chunkBytes / CHUNKS_PER_NODE);
  return { sizeBytes, chunkBytes, nodes: new Array<Digest>(count).fill(HOLE) };
}

/** The same image with more at its end, which is zeros, or less. */
export const resized = ({ nodes, ...rest }: Manifest, sizeBytes: number): Manifest => ({
  ...rest,
  sizeBytes,
  nodes: emptyManifest(sizeBytes, rest.chunkBytes).nodes.map((hole, n) => nodes[n] ?? hole),
});

export function encodeManifest({ sizeBytes, chunkBytes, nodes, extras }: Manifest): Uint8Array {
  return Buffer.from(`${JSON.stringify({ version: VERSION, sizeBytes, chunkBytes, nodes, extras })}\n`);
}

/** @throws StorageError  it says something else than a manifest does */
export function decodeManifest(bytes: Uint8Array, digest: Digest): Manifest {
  const refuse = (what: string): never => {
    throw new StorageError(`image ${digest}: ${what}`);
  };
  let parsed: Partial<Manifest> & { readonly version?: unknown };
  try {
    parsed = JSON.parse(Buffer.from(bytes).toString("utf8")) as typeof parsed;
  } catch {
    return refuse("its manifest is no JSON");
  }
  const { version, sizeBytes, chunkBytes, nodes, extras } = parsed ?? {};
  if (version !== VERSION) return refuse(`its manifest has version ${version}, expected ${VERSION}`);
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes! <= 0 || sizeBytes! % 512 !== 0) {
    return refuse(`its size is ${sizeBytes}, expected a multiple of 512`);
  }
  if (
    !Number.isInteger(chunkBytes) ||
    chunkBytes! < 4096 ||
    chunkBytes! > MAX_CHUNK_BYTES ||
    (chunkBytes! & (chunkBytes! - 1)) !== 0
  ) {
    return refuse(`its chunks are ${chunkBytes} bytes, expected a power of two from 4096 to ${MAX_CHUNK_BYTES}`);
  }
  const expected = Math.ceil(sizeBytes! / chunkBytes! / CHUNKS_PER_NODE);
  const wellFormed =
    Array.isArray(nodes) && nodes.every((node) => node === HOLE || (typeof node === "string" && isDigest(node)));
  if (!wellFormed || nodes.length !== expected) return refuse(`its manifest has no list of ${expected} nodes`);
  if (extras !== undefined && !areExtras(extras)) return refuse("what its manifest says beside the disk is malformed");
  return { sizeBytes: sizeBytes!, chunkBytes: chunkBytes!, nodes, ...(extras !== undefined && { extras }) };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function areExtras(extras: unknown): extras is ImageExtras {
  if (!isRecord(extras)) return false;
  const { files = {}, about = {} } = extras;
  const isFile = (file: unknown): boolean =>
    isRecord(file) &&
    Number.isSafeInteger(file["sizeBytes"]) &&
    (file["sizeBytes"] as number) >= 0 &&
    typeof file["digest"] === "string" &&
    isDigest(file["digest"]);
  const isText = (value: unknown): boolean => typeof value === "string";
  return isRecord(files) && isRecord(about) && Object.values(files).every(isFile) && Object.values(about).every(isText);
}

export function encodeNode(chunks: readonly Digest[]): Uint8Array {
  const bytes = Buffer.alloc(NODE_BYTES);
  chunks.forEach((digest, n) => bytes.write(digest, n * DIGEST_BYTES, "hex"));
  return bytes;
}

const NO_DIGEST = "0".repeat(DIGEST_BYTES * 2);

/** @throws StorageError  it has another length */
export function decodeNode(bytes: Uint8Array, digest: Digest): Digest[] {
  if (bytes.length !== NODE_BYTES)
    throw new StorageError(`node ${digest}: is ${bytes.length} bytes, expected ${NODE_BYTES}`);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: CHUNKS_PER_NODE }, (_, n) => {
    const text = buffer.toString("hex", n * DIGEST_BYTES, (n + 1) * DIGEST_BYTES);
    return (text === NO_DIGEST ? HOLE : text) as Digest;
  });
}

export const emptyNode = (): Digest[] => new Array<Digest>(CHUNKS_PER_NODE).fill(HOLE);

/** Reads manifests and nodes; nodes that were read are kept. */
export class ImageTree {
  readonly digest: Digest;
  readonly manifest: Manifest;
  readonly #chunks: ChunkFolder;
  readonly #nodes = new Map<number, Promise<readonly Digest[]>>();

  private constructor(chunks: ChunkFolder, digest: Digest, manifest: Manifest) {
    this.#chunks = chunks;
    this.digest = digest;
    this.manifest = manifest;
  }

  /** @throws StorageError */
  static async open(chunks: ChunkFolder, digest: Digest): Promise<ImageTree> {
    return new ImageTree(chunks, digest, decodeManifest(await chunks.get(digest), digest));
  }

  /** The digests of a node's chunks. */
  node(index: number): Promise<readonly Digest[]> {
    let node = this.#nodes.get(index);
    if (node === undefined) {
      node = this.#load(index);
      this.#nodes.set(index, node);
      node.catch(() => this.#nodes.delete(index));
    }
    return node;
  }

  async #load(index: number): Promise<readonly Digest[]> {
    const digest = this.manifest.nodes[index] ?? HOLE;
    return digest === HOLE ? emptyNode() : decodeNode(await this.#chunks.get(digest), digest);
  }

  /** The digest of a chunk of data. @param index  its offset in the disk, in chunks */
  async chunk(index: number): Promise<Digest> {
    return (await this.node(Math.floor(index / CHUNKS_PER_NODE)))[index % CHUNKS_PER_NODE] ?? HOLE;
  }

  /** Every chunk that the image needs, itself, its nodes and the files beside it among them. */
  async *all(): AsyncGenerator<Digest> {
    yield* this.disk();
    for (const { digest } of Object.values(this.manifest.extras?.files ?? {}))
      yield* (await ImageTree.open(this.#chunks, digest)).disk();
  }

  /** The same without the files. */
  async *disk(): AsyncGenerator<Digest> {
    yield this.digest;
    for (const [index, digest] of this.manifest.nodes.entries()) {
      if (digest === HOLE) continue;
      yield digest;
      for (const chunk of decodeNode(await this.#chunks.get(digest), digest)) if (chunk !== HOLE) yield chunk;
      this.#nodes.delete(index);
    }
  }
}
