/**
 * Chunks: pieces of images that never change, named by what is in them.
 *
 *     file    one byte that names the packing (0 none, 1 zstd) · the packed bytes
 *     name    SHA-256 of the unpacked bytes, in hexadecimal digits
 *
 * So a chunk that is the same in two images is there once, and one that was damaged, wherever it was kept, is found out.
 */
import { promisify } from "node:util";
import * as zlib from "node:zlib";
import { StorageError } from "../error.ts";

export type Digest = string & { readonly __brand: "Digest" };

/** Stands for a chunk of zeros, of which none is kept. */
export const HOLE = "" as Digest;
/** Bounds what a damaged file makes us allocate. */
export const MAX_CHUNK_BYTES = 4 << 20;

const compress = promisify<Uint8Array, zlib.ZstdOptions, Buffer>(zlib.zstdCompress);
const decompress = promisify<Uint8Array, zlib.ZstdOptions, Buffer>(zlib.zstdDecompress);

const Packing = { none: 0, zstd: 1 } as const;

export const isDigest = (text: string): text is Digest => /^[0-9a-f]{64}$/.test(text);

/** Computed beside this thread. @param bytes  must not change meanwhile */
export async function digestOf(bytes: Uint8Array): Promise<Digest> {
  const hash = await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>);
  return Buffer.from(hash).toString("hex") as Digest;
}

/** The chunk's file. */
export async function packChunk(bytes: Uint8Array): Promise<Uint8Array> {
  const packed = await compress(bytes, {});
  const [packing, body] = packed.length < bytes.length ? [Packing.zstd, packed] : [Packing.none, bytes];
  const file = new Uint8Array(1 + body.length);
  file[0] = packing;
  file.set(body, 1);
  return file;
}

/**
 * The chunk's bytes, which are what its name says.
 * @param origin  where the file was found, for messages
 * @throws StorageError  they are not, or the file cannot be unpacked
 */
export async function unpackChunk(file: Uint8Array, digest: Digest, origin: string): Promise<Uint8Array> {
  const bytes = await unpack(file, origin);
  const actual = await digestOf(bytes);
  if (actual !== digest)
    throw new StorageError(`chunk ${origin}: is damaged, its SHA-256 is ${actual}, expected ${digest}`);
  return bytes;
}

async function unpack(file: Uint8Array, origin: string): Promise<Uint8Array> {
  const body = file.subarray(1);
  if (file[0] === Packing.none && body.length <= MAX_CHUNK_BYTES) return body;
  if (file[0] !== Packing.zstd) {
    throw new StorageError(`chunk ${origin}: is damaged, its packing is ${file[0]}, expected 0 or 1`);
  }
  try {
    return await decompress(body, { maxOutputLength: MAX_CHUNK_BYTES });
  } catch (cause) {
    throw new StorageError(`chunk ${origin}: is damaged and does not unpack`, { cause });
  }
}

export function isZero(bytes: Uint8Array): boolean {
  if (bytes.length === 0) return true;
  if (bytes[0] !== 0) return false;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  // Each byte is compared with the one before it.
  return buffer.compare(buffer, 1, buffer.length, 0, buffer.length - 1) === 0;
}
