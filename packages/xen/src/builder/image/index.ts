/**
 * Kernel images: from a file's bytes to what must lie where in guest memory, and where the guest starts.
 *
 * Accepted are ELF files (32 and 64 bits, plain or compressed as a whole) and Linux's bzImage with a gzip, xz, lz4 or
 * zstd payload. The entry is the one of the PVH boot protocol, which an ELF note announces.
 */
import type { Gpa } from "@xenoserver/cpu";
import { bzImagePayload, isBzImage } from "./bzimage.ts";
import { type ElfImage, isElf, parseElf, type Segment } from "./elf.ts";
import { KernelImageError } from "./errors.ts";
import type { ImageBytes } from "./image-bytes.ts";
import { type Compression, decompress, detectCompression, type UnpackedPayloads } from "./payload.ts";

export type { Segment } from "./elf.ts";
export { KernelImageError, type KernelImageErrorCode } from "./errors.ts";
export { freeBytes, type ImageBytes } from "./image-bytes.ts";
export { type Compression, type UnpackedPayloads, unpack } from "./payload.ts";

export interface KernelImage {
  readonly name: string;
  readonly format: "elf" | "bzImage";
  readonly compression: Compression;
  /** Class of the ELF file; either starts in 32-bit protected mode. */
  readonly bits: 32 | 64;
  /** The PVH entry point, within one of the segments. */
  readonly entry: Gpa;
  /** The ELF file that the segments are parts of. */
  readonly content: ImageBytes;
  /** In ascending order, not overlapping, below 4 GiB. */
  readonly segments: readonly Segment[];
  /** First and last-plus-one address that any segment covers. */
  readonly startGpa: Gpa;
  readonly endGpa: Gpa;
}

/** XEN_ELFNOTE_PHYS32_ENTRY */
const NOTE_PHYS32_ENTRY = 0x12;
const NOTE_OWNER = "Xen";

/**
 * Reads a kernel image.
 * @param bytes  the whole file
 * @param name   what messages call it, usually its path
 * @param before where it may be found unpacked
 * @throws KernelImageError  see `KernelImageErrorCode`
 */
export function loadKernelImage(bytes: Uint8Array, name: string, before?: UnpackedPayloads): KernelImage {
  const { format, compression, elfBytes } = unwrap(bytes, name, before);
  const elf = parseElf(elfBytes, name);
  const entry = findEntry(elf, name);
  const segments = checkSegments(elf.segments, name);
  if (!segments.some((s) => entry >= s.gpa && entry < s.gpa + s.memSizeBytes)) {
    throw new KernelImageError(
      "damaged",
      `kernel ${name}: PVH entry is ${hex(entry)}, expected an address within a segment`,
    );
  }
  const last = segments.at(-1)!;
  return {
    name,
    format,
    compression,
    bits: elf.bits,
    entry,
    content: elfBytes,
    segments,
    startGpa: segments[0]!.gpa,
    endGpa: (last.gpa + last.memSizeBytes) as Gpa,
  };
}

function unwrap(
  bytes: Uint8Array,
  name: string,
  before: UnpackedPayloads | undefined,
): Pick<KernelImage, "format" | "compression"> & { elfBytes: ImageBytes } {
  if (bytes.length === 0) throw new KernelImageError("not-a-kernel", `kernel ${name}: file is empty`);
  if (isBzImage(bytes)) {
    const payload = bzImagePayload(bytes, name);
    // Linux's build appends the unpacked size to every format that does not carry it at its own end, as gzip does.
    const compression = detectCompression(payload);
    const stream = compression === "gzip" || compression === "none" ? payload : payload.subarray(0, -4);
    const unpacked = decompress(stream, name, before);
    if (!isElf(unpacked.bytes)) {
      throw new KernelImageError("not-a-kernel", `kernel ${name}: ${unpacked.compression} payload holds no ELF file`);
    }
    return { format: "bzImage", compression: unpacked.compression, elfBytes: unpacked.bytes };
  }
  if (detectCompression(bytes) !== undefined) {
    const unpacked = decompress(bytes, name, before);
    if (isElf(unpacked.bytes)) return { format: "elf", compression: unpacked.compression, elfBytes: unpacked.bytes };
  }
  const start = Buffer.from(bytes.subarray(0, 8)).toString("hex");
  throw new KernelImageError(
    "not-a-kernel",
    `kernel ${name}: file starts with ${start}, expected an ELF file or a bzImage`,
  );
}

function findEntry(elf: ElfImage, name: string): Gpa {
  if (elf.machine !== "x86-64" && elf.machine !== "i386") {
    throw new KernelImageError(
      "unsupported-machine",
      `kernel ${name}: is built for machine ${elf.machine}, expected x86-64`,
    );
  }
  const note = elf.notes.find(({ owner, type }) => owner === NOTE_OWNER && type === NOTE_PHYS32_ENTRY);
  if (note === undefined) {
    throw new KernelImageError(
      "no-pvh-entry",
      `kernel ${name}: ${elf.bits}-bit ${elf.machine} image has no PVH entry note (Xen, type 0x12), ` +
        "expected a kernel built with CONFIG_PVH, as Debian's amd64 kernels are",
    );
  }
  const view = new DataView(note.descriptor.buffer, note.descriptor.byteOffset, note.descriptor.byteLength);
  if (view.byteLength === 4) return view.getUint32(0, true) as Gpa;
  if (view.byteLength === 8) return Number(view.getBigUint64(0, true)) as Gpa;
  throw new KernelImageError("damaged", `kernel ${name}: PVH entry note is ${view.byteLength} bytes, expected 4 or 8`);
}

function checkSegments(unsorted: readonly Segment[], name: string): Segment[] {
  const segments = unsorted.toSorted((a, b) => a.gpa - b.gpa);
  if (segments.length === 0) throw new KernelImageError("not-a-kernel", `kernel ${name}: ELF file has nothing to load`);
  for (const [i, segment] of segments.entries()) {
    const end = segment.gpa + segment.memSizeBytes;
    if (end > 2 ** 32) {
      throw new KernelImageError("damaged", `kernel ${name}: segment ends at ${hex(end)}, expected ≤ 0x100000000`);
    }
    const next = segments[i + 1];
    if (next !== undefined && end > next.gpa) {
      throw new KernelImageError("damaged", `kernel ${name}: segments overlap at ${hex(next.gpa)}`);
    }
  }
  return segments;
}

const hex = (n: number): string => `0x${n.toString(16)}`;
