/** Opens images of any format, with the images that they are built upon. */
import type { BlockStore } from "@xenoserver/devices/block/store.ts";
import { StorageError } from "./error.ts";
import { QCOW2_MAGIC } from "./qcow2/header.ts";
import { Qcow2Store } from "./qcow2/image.ts";
import { RandomAccessFile } from "./raw/file.ts";
import { RawStore } from "./raw/raw-store.ts";
import { VhdStore } from "./vhd/vhd-store.ts";

export type ImageFormat = "raw" | "qcow2" | "vhd";

export interface OpenOptions {
  readonly format: ImageFormat;
  readonly readOnly: boolean;
  /**
   * Whether the image may name other files. An image from a stranger may not: it would show him any file that this process can
   * read. The default is that it may.
   */
  readonly allowBacking?: boolean;
}

const MAX_BACKING_FILES = 16;

/** @throws StorageError  the image, or one that it is built upon, cannot be used */
export function openImage(path: string, options: OpenOptions): Promise<BlockStore> {
  return open(path, options, 0);
}

async function open(
  path: string,
  { format, readOnly, allowBacking = true }: OpenOptions,
  depth: number,
): Promise<BlockStore> {
  switch (format) {
    case "raw":
      return RawStore.open(path, { readOnly });
    case "vhd":
      return VhdStore.open(path, { readOnly });
    case "qcow2":
      return Qcow2Store.open(path, {
        readOnly,
        openBacking: async (backing, itsFormat) => {
          if (!allowBacking)
            throw new StorageError(`${path}: has the backing file ${backing}, expected an image that stands alone`);
          if (depth >= MAX_BACKING_FILES)
            throw new StorageError(`${path}: has more than ${MAX_BACKING_FILES} backing files`);
          const known = itsFormat === undefined ? await detectFormat(backing) : formatOf(itsFormat, path);
          // What only looks like an image may be a disk that a guest made look so: it may name no further files.
          const options = { format: known, readOnly: true, allowBacking: itsFormat !== undefined };
          return open(backing, options, depth + 1);
        },
      });
  }
}

const QEMU_NAMES: Readonly<Record<string, ImageFormat>> = { raw: "raw", qcow2: "qcow2", vpc: "vhd", vhd: "vhd" };

function formatOf(name: string, path: string): ImageFormat {
  const format = Object.hasOwn(QEMU_NAMES, name) ? QEMU_NAMES[name] : undefined;
  if (format === undefined)
    throw new StorageError(`${path}: has a backing file of format ${name}, expected raw, qcow2 or vpc`);
  return format;
}

const VHD_COOKIE = "conectix";

/**
 * What a file looks like. Not to be asked of a disk that a guest writes: it could make a raw disk look like an image.
 * @throws StorageError  it cannot be read
 */
export async function detectFormat(path: string): Promise<ImageFormat> {
  const file = await RandomAccessFile.open(path, { readOnly: true });
  try {
    const start = new Uint8Array(8);
    await file.readPadded(0, [start]);
    if (new DataView(start.buffer).getUint32(0) === QCOW2_MAGIC) return "qcow2";
    const end = new Uint8Array(8);
    await file.readPadded(Math.max(0, file.sizeBytes - 512), [end]);
    const isVhd = [start, end].some((bytes) => Buffer.from(bytes).toString("latin1") === VHD_COOKIE);
    return isVhd ? "vhd" : "raw";
  } finally {
    await file.close();
  }
}
