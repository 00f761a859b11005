/** Small kernel images made for tests. */

export interface ElfSpec {
  readonly bits?: 32 | 64;
  readonly machine?: number;
  readonly segments?: readonly { readonly at: number; readonly bytes: Uint8Array; readonly memSize?: number }[];
  /** Bytes of the PVH note's descriptor; null leaves the note out. */
  readonly entry?: Uint8Array | null;
}

export const u32 = (n: number): Uint8Array => new Uint8Array(new Uint32Array([n]).buffer);
export const u64 = (n: number): Uint8Array => new Uint8Array(new BigUint64Array([BigInt(n)]).buffer);

/** Reproducible bytes, full of what looks like calls and jumps. */
export function callLikeBytes(length: number): Uint8Array {
  const palette = [0xe8, 0xe9, 0x00, 0xff, 0xe8, 0x12];
  let state = 1;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return palette[(state >>> 16) % palette.length]!;
  });
}

/** An ELF file with a PT_LOAD for each segment and a PT_NOTE. */
export function makeElf(spec: ElfSpec = {}): Uint8Array {
  const bits = spec.bits ?? 64;
  const segments = spec.segments ?? [{ at: 0x100000, bytes: callLikeBytes(2048), memSize: 8192 }];
  const descriptor = spec.entry === undefined ? u32(0x100010) : spec.entry;
  // Another owner's note with the same type in front, as a reader must look at both.
  const notes = Buffer.concat([
    note("GNU", 0x12, u32(0xdead)),
    descriptor ? note("Xen", 0x12, descriptor) : Buffer.alloc(0),
  ]);
  const [headerBytes, programBytes] = bits === 64 ? [64, 56] : [52, 32];
  const count = segments.length + 1;
  const noteAt = headerBytes + programBytes * count;
  const file = Buffer.alloc(noteAt + notes.length + segments.reduce((sum, s) => sum + s.bytes.length, 0));
  file.set([0x7f, 0x45, 0x4c, 0x46, bits === 64 ? 2 : 1, 1, 1]);
  file.writeUInt16LE(spec.machine ?? (bits === 64 ? 62 : 3), 18);
  if (bits === 64) {
    file.writeBigUInt64LE(64n, 32);
    file.writeUInt16LE(programBytes, 54);
    file.writeUInt16LE(count, 56);
  } else {
    file.writeUInt32LE(52, 28);
    file.writeUInt16LE(programBytes, 42);
    file.writeUInt16LE(count, 44);
  }
  const program = (index: number, type: number, offset: number, paddr: number, filesz: number, memsz: number): void => {
    const at = headerBytes + index * programBytes;
    file.writeUInt32LE(type, at);
    const values = [offset, 0, paddr, filesz, memsz];
    if (bits === 64) values.forEach((value, i) => file.writeBigUInt64LE(BigInt(value), at + 8 + i * 8));
    else values.forEach((value, i) => file.writeUInt32LE(value, at + 4 + i * 4));
    const align = bits === 64 ? at + 48 : at + 28;
    file.writeUInt32LE(4, align);
  };
  file.set(notes, noteAt);
  program(0, 4, noteAt, 0, notes.length, notes.length);
  let at = noteAt + notes.length;
  segments.forEach((segment, i) => {
    file.set(segment.bytes, at);
    program(i + 1, 1, at, segment.at, segment.bytes.length, segment.memSize ?? segment.bytes.length);
    at += segment.bytes.length;
  });
  return file;
}

function note(owner: string, type: number, descriptor: Uint8Array): Buffer {
  const name = Buffer.from(owner + "\0");
  const padded = (bytes: Uint8Array): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
  return Buffer.concat([u32(name.length), u32(descriptor.length), u32(type), padded(name), padded(descriptor)]);
}

/** Wraps a payload as Linux's build does. */
export function makeBzImage(payload: Uint8Array, version = 0x20f): Uint8Array {
  const setup = Buffer.alloc(5 * 512);
  setup[0x1f1] = 4;
  setup.writeUInt16LE(0xaa55, 0x1fe);
  setup.write("HdrS", 0x202, "latin1");
  setup.writeUInt16LE(version, 0x206);
  setup.writeUInt32LE(16, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(16, 0xcc), payload, Buffer.alloc(32, 0x90)]);
}
