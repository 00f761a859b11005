/**
 * The smallest ELF64 executables: one program header for the image, one for the PVH note where asked.
 * @see System V ABI, chapter 4 (object files) and chapter 5 (program loading)
 */

const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const PT_LOAD = 1;
const PT_NOTE = 4;
const EM_X86_64 = 62;
const ET_EXEC = 2;
/** ELF note type that holds the 32-bit physical entry of a PVH kernel. @see xen/include/public/elfnote.h */
export const XEN_ELFNOTE_PHYS32_ENTRY = 18;

export interface ElfOptions {
  /** Bytes of the image, loaded at `loadAddress`. */
  readonly image: Uint8Array;
  /** Virtual (and physical) address of the image, 4 KiB aligned. */
  readonly loadAddress: number;
  readonly entry: number;
  /** Zero bytes after the image. */
  readonly bssBytes?: number;
  /** Physical address for the PVH note; the note is there only if this is given. */
  readonly pvhEntry?: number;
}

interface Segment {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly address: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
  readonly align: number;
}

/** Writes a static ELF64 executable whose single segment is readable, writable and executable. @throws if misaligned */
export function writeElf(options: ElfOptions): Uint8Array {
  const { image, loadAddress, entry, bssBytes = 0 } = options;
  if (loadAddress % 4096 !== 0)
    throw new Error(`ELF load address 0x${loadAddress.toString(16)}: expected 4 KiB aligned`);
  const note = options.pvhEntry === undefined ? new Uint8Array(0) : pvhNote(options.pvhEntry);
  const imageOffset = 4096;
  const segments: Segment[] = [
    {
      type: PT_LOAD,
      flags: 7,
      offset: imageOffset,
      address: loadAddress,
      fileBytes: image.length,
      memoryBytes: image.length + bssBytes,
      align: 4096,
    },
  ];
  const noteOffset = ELF_HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES;
  if (note.length > 0) {
    segments.push({
      type: PT_NOTE,
      flags: 4,
      offset: noteOffset,
      address: 0,
      fileBytes: note.length,
      memoryBytes: note.length,
      align: 4,
    });
  }
  const out = new Uint8Array(imageOffset + image.length);
  const view = new DataView(out.buffer);
  out.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, ET_EXEC, true);
  view.setUint16(18, EM_X86_64, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(entry), true);
  view.setBigUint64(32, BigInt(ELF_HEADER_BYTES), true);
  view.setUint16(52, ELF_HEADER_BYTES, true);
  view.setUint16(54, PROGRAM_HEADER_BYTES, true);
  view.setUint16(56, segments.length, true);
  segments.forEach((s, i) => {
    writeSegment(view, ELF_HEADER_BYTES + i * PROGRAM_HEADER_BYTES, s);
  });
  out.set(note, noteOffset);
  out.set(image, imageOffset);
  return out;
}

function writeSegment(view: DataView, at: number, s: Segment): void {
  view.setUint32(at, s.type, true);
  view.setUint32(at + 4, s.flags, true);
  const fields = [s.offset, s.address, s.address, s.fileBytes, s.memoryBytes, s.align];
  fields.forEach((value, i) => {
    view.setBigUint64(at + 8 + 8 * i, BigInt(value), true);
  });
}

function pvhNote(entry: number): Uint8Array {
  const note = new Uint8Array(20);
  const view = new DataView(note.buffer);
  view.setUint32(0, 4, true);
  view.setUint32(4, 4, true);
  view.setUint32(8, XEN_ELFNOTE_PHYS32_ENTRY, true);
  note.set(new TextEncoder().encode("Xen"), 12);
  view.setUint32(16, entry, true);
  return note;
}
