/**
 * ELF executables: loadable segments and Xen's notes.
 *
 * @see the System V ABI's chapter "Object Files"; xen/include/public/elfnote.h
 */
import type { Gpa } from "@xenoserver/cpu";
import { KernelImageError } from "./errors.ts";
import type { ImageBytes } from "./image-bytes.ts";

/** A part of the image to put at a guest-physical address; from fileSizeBytes up to memSizeBytes the guest finds zeros. */
export interface Segment {
  readonly gpa: Gpa;
  /** Where in the image it begins. */
  readonly offset: number;
  readonly fileSizeBytes: number;
  readonly memSizeBytes: number;
}

export interface ElfImage {
  readonly bits: 32 | 64;
  /** "x86-64", "i386" or the number of e_machine. */
  readonly machine: string;
  readonly segments: readonly Segment[];
  readonly notes: readonly ElfNote[];
}

export interface ElfNote {
  readonly owner: string;
  readonly type: number;
  readonly descriptor: Uint8Array;
}

const PT_LOAD = 1;
const PT_NOTE = 4;
const SHT_NOTE = 7;
const MACHINES: Readonly<Record<number, string>> = { 3: "i386", 62: "x86-64" };

/** Where the fields lie in the two classes: [offset, bytes]. */
type Field = readonly [offset: number, sizeBytes: 2 | 4 | 8];
const LAYOUT = {
  32: {
    headerBytes: 52,
    phoff: [28, 4],
    shoff: [32, 4],
    phentsize: [42, 2],
    phnum: [44, 2],
    shentsize: [46, 2],
    shnum: [48, 2],
    programBytes: 32,
    type: [0, 4],
    offset: [4, 4],
    paddr: [12, 4],
    filesz: [16, 4],
    memsz: [20, 4],
    align: [28, 4],
    sectionBytes: 40,
    sectionType: [4, 4],
    sectionOffset: [16, 4],
    sectionSize: [20, 4],
    sectionAlign: [32, 4],
  },
  64: {
    headerBytes: 64,
    phoff: [32, 8],
    shoff: [40, 8],
    phentsize: [54, 2],
    phnum: [56, 2],
    shentsize: [58, 2],
    shnum: [60, 2],
    programBytes: 56,
    type: [0, 4],
    offset: [8, 8],
    paddr: [24, 8],
    filesz: [32, 8],
    memsz: [40, 8],
    align: [48, 8],
    sectionBytes: 64,
    sectionType: [4, 4],
    sectionOffset: [24, 8],
    sectionSize: [32, 8],
    sectionAlign: [48, 8],
  },
} as const satisfies Record<32 | 64, Record<string, number | Field>>;

const MAGIC = [0x7f, 0x45, 0x4c, 0x46];

export function isElf(bytes: ImageBytes): boolean {
  const start = bytes.read(0, Math.min(MAGIC.length, bytes.length));
  return MAGIC.every((byte, i) => start[i] === byte);
}

/**
 * Reads an ELF file's headers and notes.
 * @throws KernelImageError  not-a-kernel or truncated
 */
export function parseElf(bytes: ImageBytes, name: string): ElfImage {
  const [elfClass, encoding] = bytes.length < 6 ? [] : bytes.read(4, 2);
  const bits = elfClass === 1 ? 32 : elfClass === 2 ? 64 : undefined;
  if (!isElf(bytes) || bits === undefined || encoding !== 1) {
    throw new KernelImageError("not-a-kernel", `kernel ${name}: is not a little-endian ELF file`);
  }
  const file = new ElfReader(bytes, name);
  const layout = LAYOUT[bits];
  const machine = file.number(0, [18, 2]);
  const segments: Segment[] = [];
  const notes: ElfNote[] = [];

  const programs = file.table(layout.phoff, layout.phentsize, layout.phnum, layout.programBytes, "program header");
  for (const at of programs) {
    const type = file.number(at, layout.type);
    if (type !== PT_LOAD && type !== PT_NOTE) continue;
    const [offset, fileSizeBytes] = [file.number(at, layout.offset), file.number(at, layout.filesz)];
    if (type === PT_NOTE) {
      notes.push(...readNotes(file.content(offset, fileSizeBytes, "segment"), file.number(at, layout.align)));
      continue;
    }
    file.mustHave(offset, fileSizeBytes, "segment");
    const memSizeBytes = file.number(at, layout.memsz);
    if (memSizeBytes < fileSizeBytes) {
      throw new KernelImageError(
        "damaged",
        `kernel ${name}: segment has ${fileSizeBytes} bytes in the file, expected ≤ ${memSizeBytes}, its size in memory`,
      );
    }
    const gpa = file.number(at, layout.paddr) as Gpa;
    if (memSizeBytes > 0) segments.push({ gpa, offset, fileSizeBytes, memSizeBytes });
  }
  if (notes.length === 0) {
    const sections = file.table(layout.shoff, layout.shentsize, layout.shnum, layout.sectionBytes, "section header");
    for (const at of sections) {
      if (file.number(at, layout.sectionType) !== SHT_NOTE) continue;
      const content = file.content(
        file.number(at, layout.sectionOffset),
        file.number(at, layout.sectionSize),
        "section",
      );
      notes.push(...readNotes(content, file.number(at, layout.sectionAlign)));
    }
  }
  return { bits, machine: MACHINES[machine] ?? String(machine), segments, notes };
}

/** Notes of a segment: name and descriptor are each padded to four bytes, or to eight if the segment says so. */
function readNotes(content: Uint8Array, align: number): ElfNote[] {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const unit = align === 8 ? 8 : 4;
  const padded = (n: number): number => Math.ceil(n / unit) * unit;
  const notes: ElfNote[] = [];
  for (let at = 0; at + 12 <= content.length; ) {
    const nameBytes = view.getUint32(at, true);
    const descriptorBytes = view.getUint32(at + 4, true);
    const descriptorAt = at + padded(12 + nameBytes);
    const end = descriptorAt + descriptorBytes;
    if (end > content.length) break;
    notes.push({
      owner: Buffer.from(content.subarray(at + 12, at + 12 + nameBytes))
        .toString("latin1")
        .replace(/\0+$/, ""),
      type: view.getUint32(at + 8, true),
      descriptor: content.subarray(descriptorAt, end),
    });
    at = descriptorAt + padded(descriptorBytes);
  }
  return notes;
}

class ElfReader {
  readonly #bytes: ImageBytes;
  readonly #name: string;

  constructor(bytes: ImageBytes, name: string) {
    this.#bytes = bytes;
    this.#name = name;
  }

  number(base: number, [offset, sizeBytes]: Field): number {
    const at = base + offset;
    const { buffer, byteOffset } = this.content(at, sizeBytes, "header");
    const view = new DataView(buffer, byteOffset, sizeBytes);
    if (sizeBytes === 2) return view.getUint16(0, true);
    if (sizeBytes === 4) return view.getUint32(0, true);
    return Number(view.getBigUint64(0, true));
  }

  content(offset: number, lengthBytes: number, what: string): Uint8Array {
    this.mustHave(offset, lengthBytes, what);
    return this.#bytes.read(offset, lengthBytes);
  }

  mustHave(offset: number, lengthBytes: number, what: string): void {
    const end = offset + lengthBytes;
    if (end <= this.#bytes.length) return;
    throw new KernelImageError(
      "truncated",
      `kernel ${this.#name}: ${what} ends at byte ${end}, but the ELF file is ${this.#bytes.length} bytes; it may be truncated`,
    );
  }

  /** Offsets of a header table's entries. */
  table(start: Field, entry: Field, count: Field, minimum: number, what: string): number[] {
    const entries = this.number(0, count);
    if (entries === 0) return [];
    const entryBytes = this.number(0, entry);
    if (entryBytes < minimum) {
      throw new KernelImageError(
        "damaged",
        `kernel ${this.#name}: ${what} is ${entryBytes} bytes, expected ≥ ${minimum}`,
      );
    }
    const first = this.number(0, start);
    this.mustHave(first, entries * entryBytes, what);
    return Array.from({ length: entries }, (_, i) => first + i * entryBytes);
  }
}
