/**
 * Disks in VHD images, fixed and dynamic, for reading: to be imported from.
 *
 *     fixed     the disk's bytes · footer of 512 bytes
 *     dynamic   copy of the footer · header of 1024 bytes · table of blocks · blocks, each with a bitmap in front · footer
 *
 * @see Virtual Hard Disk Image Format Specification, version 1.0, Microsoft
 */
import { type BlockInfo, type BlockStore, totalBytes } from "@xenoserver/devices/block/store.ts";
import { sliceBuffers, zeroBuffers } from "../buffers.ts";
import { StorageError } from "../error.ts";
import { RandomAccessFile } from "../raw/file.ts";

const FOOTER_BYTES = 512;
const HEADER_BYTES = 1024;
const SECTOR_BYTES = 512;
const Type = { fixed: 2, dynamic: 3, differencing: 4 } as const;
const UNUSED = 0xffffffff;
const MAX_TABLE_ENTRIES = 1 << 23;

/** Where the disk's blocks lie; undefined for a fixed disk, whose bytes are the file's. */
interface Blocks {
  readonly blockBytes: number;
  readonly bitmapBytes: number;
  /** In sectors; UNUSED where there is no block. */
  readonly table: Uint32Array;
}

export class VhdStore implements BlockStore {
  readonly info: BlockInfo;
  readonly #file: RandomAccessFile;
  readonly #blocks: Blocks | undefined;

  private constructor(file: RandomAccessFile, sizeBytes: number, blocks: Blocks | undefined) {
    this.info = { sizeBytes, readOnly: true };
    this.#file = file;
    this.#blocks = blocks;
  }

  /** @throws StorageError  it is no VHD image, one that needs a parent, damaged, or was to be written */
  static async open(path: string, { readOnly }: { readonly readOnly: boolean }): Promise<VhdStore> {
    if (!readOnly)
      throw new StorageError(`${path}: format vhd is for reading, expected access=ro, or an import into an image`);
    const file = await RandomAccessFile.open(path, { readOnly: true });
    try {
      const footer = await readFooter(file);
      const view = new DataView(footer.buffer);
      const sizeBytes = view.getUint32(48) * 2 ** 32 + view.getUint32(52);
      const type = view.getUint32(60);
      if (sizeBytes % SECTOR_BYTES !== 0 || !Number.isSafeInteger(sizeBytes) || sizeBytes === 0) {
        throw new StorageError(
          `${path}: says that its disk is ${sizeBytes} bytes, expected a multiple of ${SECTOR_BYTES}`,
        );
      }
      if (type === Type.differencing) throw new StorageError(`${path}: is a differencing VHD, which is not supported`);
      if (type === Type.dynamic) return new VhdStore(file, sizeBytes, await readBlocks(file, view, sizeBytes));
      if (type !== Type.fixed)
        throw new StorageError(`${path}: is a VHD of type ${type}, expected 2 (fixed) or 3 (dynamic)`);
      if (sizeBytes > file.sizeBytes - FOOTER_BYTES) {
        throw new StorageError(`${path}: has ${file.sizeBytes - FOOTER_BYTES} bytes of data, expected ${sizeBytes}`);
      }
      return new VhdStore(file, sizeBytes, undefined);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    if (this.#blocks === undefined) return this.#file.read(offset, into);
    const { blockBytes, bitmapBytes, table } = this.#blocks;
    const lengthBytes = totalBytes(into);
    for (let start = 0; start < lengthBytes; ) {
      const at = offset + start;
      const within = at % blockBytes;
      const count = Math.min(lengthBytes - start, blockBytes - within);
      const parts = sliceBuffers(into, start, count);
      const sector = table[Math.floor(at / blockBytes)]!;
      // Sectors of a block that the bitmap leaves out hold zeros.
      if (sector === UNUSED) zeroBuffers(parts);
      else await this.#file.readPadded(sector * SECTOR_BYTES + bitmapBytes + within, parts);
      start += count;
    }
  }

  async write(): Promise<void> {
    throw new StorageError(`${this.#file.path}: is read-only`);
  }

  async flush(): Promise<void> {}

  async discard(): Promise<void> {}

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** The footer at the end, or its copy in front where that is damaged. */
async function readFooter(file: RandomAccessFile): Promise<Uint8Array> {
  for (const offset of [file.sizeBytes - FOOTER_BYTES, 0]) {
    if (offset < 0) continue;
    const footer = new Uint8Array(FOOTER_BYTES);
    await file.readPadded(offset, [footer]);
    if (hasCookie(footer, "conectix") && hasChecksum(footer, 64)) return footer;
  }
  throw new StorageError(`${file.path}: is no VHD image, or its footer is damaged`);
}

async function readBlocks(file: RandomAccessFile, footer: DataView, sizeBytes: number): Promise<Blocks> {
  const header = new Uint8Array(HEADER_BYTES);
  await file.readPadded(footer.getUint32(16) * 2 ** 32 + footer.getUint32(20), [header]);
  if (!hasCookie(header, "cxsparse") || !hasChecksum(header, 36)) {
    throw new StorageError(`${file.path}: the header of its blocks is damaged`);
  }
  const view = new DataView(header.buffer);
  const entries = view.getUint32(28);
  const blockBytes = view.getUint32(32);
  const needed = Math.ceil(sizeBytes / blockBytes);
  if (blockBytes < SECTOR_BYTES || (blockBytes & (blockBytes - 1)) !== 0) {
    throw new StorageError(`${file.path}: has blocks of ${blockBytes} bytes, expected a power of two`);
  }
  if (entries < needed || entries > MAX_TABLE_ENTRIES) {
    throw new StorageError(
      `${file.path}: has a table of ${entries} blocks, expected ${needed} for its ${sizeBytes} bytes`,
    );
  }
  const bytes = new Uint8Array(entries * 4);
  await file.readPadded(view.getUint32(16) * 2 ** 32 + view.getUint32(20), [bytes]);
  const words = new DataView(bytes.buffer);
  const table = Uint32Array.from({ length: entries }, (_, n) => words.getUint32(n * 4));
  const bitmapBytes = Math.ceil(blockBytes / SECTOR_BYTES / 8 / SECTOR_BYTES) * SECTOR_BYTES;
  return { blockBytes, bitmapBytes, table };
}

const hasCookie = (bytes: Uint8Array, cookie: string): boolean =>
  Buffer.from(bytes.subarray(0, 8)).toString("latin1") === cookie;

/** One's complement of the sum of all bytes but the checksum's own. */
function hasChecksum(bytes: Uint8Array, at: number): boolean {
  let sum = 0;
  bytes.forEach((byte, n) => {
    if (n < at || n >= at + 4) sum += byte;
  });
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at) === ~sum >>> 0;
}
