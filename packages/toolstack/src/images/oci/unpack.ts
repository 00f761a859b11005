/** From an image's layers to a tree of files. */
import { createHash } from "node:crypto";
import { PassThrough, pipeline, Readable, type Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { addTar, type FileTree, type Spool } from "@xenoserver/storage";
import { type OciDigest, OciError, type OciImage, PLATFORM } from "./image-spec.ts";

/**
 * Puts an image's layers on top of each other.
 * @param progress  is told the name of each layer before it is read
 * @throws OciError, StorageError  a layer is not what the image says; the tree is to be thrown away then
 */
export async function unpackLayers(
  image: OciImage,
  tree: FileTree,
  spool: Spool,
  progress: (line: string) => void,
): Promise<void> {
  const { platform, diffIds } = image.config;
  if (platform !== PLATFORM) throw new OciError(`${image.name}: is for ${platform}, expected ${PLATFORM}`);
  if (diffIds.length !== image.layers.length)
    throw new OciError(
      `${image.name}: has ${image.layers.length} layers, expected ${diffIds.length} as its configuration says`,
    );
  for (const [n, layer] of image.layers.entries()) {
    progress(`${layer.name}, ${(layer.sizeBytes / 1e6).toFixed(1)} MB`);
    const pieces = identified(unpacked(await layer.open()), diffIds[n]!, layer.name);
    await addTar(tree, pieces, spool, { name: layer.name, whiteouts: true });
    // Archives may have bytes behind their end, which count for the digest.
    for await (const _ of pieces);
  }
}

/** Looks at the bytes rather than at what a media type says of them. */
async function* unpacked(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const source = Readable.from(pieces, { objectMode: false });
  const head = await firstBytes(source);
  const packing =
    head.readUInt16BE(0) === 0x1f8b
      ? createGunzip()
      : head.readUInt32BE(0) === 0x28b52ffd
        ? createZstdDecompress()
        : new PassThrough();
  const failed = new Promise<never>((_, reject) => {
    pipeline(source, packing as Transform, (error) => {
      if (error) reject(error);
    });
  });
  failed.catch(() => {});
  for await (const piece of packing) yield piece as Uint8Array;
}

async function firstBytes(source: Readable): Promise<Buffer> {
  const head = Buffer.alloc(4);
  await new Promise<void>((resolve, reject) => {
    source.once("readable", resolve);
    source.once("error", reject);
    source.once("end", resolve);
  });
  const first = source.read() as Buffer | null;
  if (first !== null) {
    first.copy(head);
    source.unshift(first);
  }
  return head;
}

async function* identified(
  pieces: AsyncIterable<Uint8Array>,
  digest: OciDigest,
  name: string,
): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  for await (const piece of pieces) {
    hash.update(piece);
    yield piece;
  }
  const actual = `sha256:${hash.digest("hex")}`;
  if (actual !== digest) throw new OciError(`${name}: unpacked, its digest is ${actual}, expected ${digest}`);
}
