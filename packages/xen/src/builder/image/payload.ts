/** Unpacking of compressed kernel payloads, told apart by their first bytes. */
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { KernelImageError } from "./errors.ts";
import { bytesInMemory, type ImageBytes } from "./image-bytes.ts";
import { decodeLz4Legacy, isLz4Legacy } from "./lz4-legacy.ts";
import { decodeXz, isXz } from "./xz.ts";

export type Compression = "none" | "gzip" | "xz" | "lz4" | "zstd";

/** Larger than any kernel; bounds what a hostile image makes us allocate. */
const MAX_KERNEL_BYTES = 2 ** 29;

const startsWith = (bytes: Uint8Array, ...magic: number[]): boolean => magic.every((byte, i) => bytes[i] === byte);

/** Formats that kernels can be built with and that are not offered here, to name them in the error. */
const UNSUPPORTED: readonly (readonly [name: string, ...magic: number[]])[] = [
  ["bzip2", 0x42, 0x5a, 0x68],
  ["lzma", 0x5d, 0x00, 0x00],
  ["lzop", 0x89, 0x4c, 0x5a, 0x4f],
];

/** How `bytes` are compressed; "none" means that they are an ELF file. Undefined: not recognised. */
export function detectCompression(bytes: Uint8Array): Compression | undefined {
  if (startsWith(bytes, 0x7f, 0x45, 0x4c, 0x46)) return "none";
  if (startsWith(bytes, 0x1f, 0x8b)) return "gzip";
  if (isXz(bytes)) return "xz";
  if (isLz4Legacy(bytes)) return "lz4";
  if (startsWith(bytes, 0x28, 0xb5, 0x2f, 0xfd)) return "zstd";
  return undefined;
}

/** What was unpacked before. Unpacking takes longer than anything else that it takes to build a domain. */
export interface UnpackedPayloads {
  /** `packed` has to stay as it is until what is returned is released. */
  find(packed: Uint8Array): ImageBytes | undefined;
  keep(packed: Uint8Array, unpacked: Uint8Array): void;
}

/**
 * Unpacks `bytes`, which hold exactly one compressed stream.
 * @param before  where it may be found unpacked
 * @throws KernelImageError  unsupported-compression or damaged
 */
export function decompress(
  bytes: Uint8Array,
  name: string,
  before?: UnpackedPayloads,
): { compression: Compression; bytes: ImageBytes } {
  const compression = detectCompression(bytes);
  if (compression === undefined) {
    const other = UNSUPPORTED.find(([, ...magic]) => startsWith(bytes, ...magic))?.[0];
    const start = Buffer.from(bytes.subarray(0, 6)).toString("hex");
    throw new KernelImageError(
      "unsupported-compression",
      `kernel ${name}: payload is ${other ?? `unknown (starts with ${start})`}, expected ELF, gzip, xz, lz4 or zstd`,
    );
  }
  const known = compression === "none" ? undefined : before?.find(bytes);
  if (known !== undefined) return { compression, bytes: known };
  try {
    const unpacked = unpack(bytes, compression);
    if (compression !== "none") before?.keep(bytes, unpacked);
    return { compression, bytes: bytesInMemory(unpacked) };
  } catch (cause) {
    throw new KernelImageError(
      "damaged",
      `kernel ${name}: ${compression} payload of ${bytes.length} bytes does not unpack`,
      {
        cause,
      },
    );
  }
}

/** @throws Error  they are not packed like that */
export const unpack = (bytes: Uint8Array, compression = detectCompression(bytes)): Uint8Array =>
  decoders[compression ?? "none"](bytes);

const decoders: Readonly<Record<Compression, (bytes: Uint8Array) => Uint8Array>> = {
  none: (bytes) => bytes,
  gzip: (bytes) => gunzipSync(bytes, { maxOutputLength: MAX_KERNEL_BYTES }),
  xz: (bytes) => decodeXz(bytes, { maxBytes: MAX_KERNEL_BYTES }),
  lz4: (bytes) => decodeLz4Legacy(bytes, MAX_KERNEL_BYTES),
  zstd: (bytes) => zstdDecompressSync(bytes, { maxOutputLength: MAX_KERNEL_BYTES }),
};
