/**
 * A test case of the oracle and what comes of it: pure data, shared by the host CPU and every engine.
 *
 * The world of a case, at CPL 3 with IOPL 0, CR0.AM = 1, CR4.OSFXSR = CR4.OSXMMEXCPT = 1, in 64-bit mode or, where the
 * case says so, in compatibility mode:
 *
 * | addresses                                   | rights         | contents                                          |
 * | ------------------------------------------- | -------------- | ------------------------------------------------- |
 * | `SCRATCH_BASE` + 0 … `SCRATCH_BYTES` − 1    | read, write    | `background()`, then the case's memory patches    |
 * | `READONLY_BASE` + 0 … 4095                  | read           | the first 4096 bytes of `background()`            |
 * | `CODE_BASE` + 0 … `CODE_BYTES` − 1          | read, execute  | INT3 everywhere, the case's code at `codeOffset`  |
 * | everything else                             | not present    |                                                   |
 *
 * FS.base is `FS_BASE`, GS.base is `GS_BASE`; the other segments are flat. In compatibility mode FS and GS are null, CS
 * is a 32-bit segment, and the low halves of the first eight registers are all there is. A case starts at its code and ends at its
 * first exception. Code that runs to its end meets an INT3 there, so a complete run is #BP with RIP one behind the code.
 */

export const SCRATCH_BASE = 0x1000_0000;
export const SCRATCH_BYTES = 0x1_0000;
export const READONLY_BASE = 0x1001_1000;
export const READONLY_BYTES = 0x1000;
export const CODE_BASE = 0x2000_0000;
export const CODE_BYTES = 0x2000;
export const FS_BASE = 0x1000_3010;
export const GS_BASE = 0x0fff_0000;
/** Results report changed memory in aligned chunks of this many bytes. */
export const CHUNK_BYTES = 64;
/** Bytes of an FXSAVE image; those above 416 and FOP, FIP, FDP, MXCSR_MASK are not compared. */
export const FX_BYTES = 512;

/** RFLAGS bits that a case may start with and that results keep: ID, AC, NT, OF, DF, TF, SF, ZF, AF, PF, CF. */
export const RFLAGS_MASK = 0x24_4dd5;

/** Bits of RFLAGS. */
export const Flag = {
  CF: 0x1,
  PF: 0x4,
  AF: 0x10,
  ZF: 0x40,
  SF: 0x80,
  TF: 0x100,
  DF: 0x400,
  OF: 0x800,
  NT: 0x4000,
  AC: 0x4_0000,
  ID: 0x20_0000,
} as const;

/** Numbers of the exceptions a case can end in. */
export const Vector = { DE: 0, DB: 1, BP: 3, OF: 4, UD: 6, SS: 12, GP: 13, PF: 14, MF: 16, AC: 17, XM: 19 } as const;

export interface MemoryPatch {
  /** Bytes from `SCRATCH_BASE`. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** What a comparison overlooks because the architecture leaves it open. */
export interface Ignore {
  /** By instruction: from code offset `at` (bytes into `code`) on, these RFLAGS bits are undefined. Ascending. */
  readonly rflags?: readonly { readonly at: number; readonly mask: number }[];
  /** Likewise for the x87 status word. */
  readonly fsw?: readonly { readonly at: number; readonly mask: number }[];
  /** Scratch bytes that hold implementation-defined contents. */
  readonly memory?: readonly { readonly offset: number; readonly lengthBytes: number }[];
  /** Instructions (by offset) that may have stored part of this many bytes below RSP when they fault. */
  readonly partialStack?: readonly { readonly at: number; readonly lengthBytes: number }[];
}

/** What an instruction does to flags (RFLAGS) or condition codes (x87 status word), as bit masks. */
export interface BitEffect {
  readonly reads: number;
  readonly defined: number;
  readonly undefined: number;
}

/** One drawn instruction of a case, with the helpers before it. */
export interface CaseInstruction {
  /** Bytes into `code`. */
  readonly at: number;
  readonly text: string;
  readonly flags?: BitEffect;
  readonly status?: BitEffect;
  /** RFLAGS bits that the helpers before it make defined. */
  readonly settled?: number;
  readonly branch?: true;
  /** Has an MMX register: on some processors it makes the x87 stack ready even when its memory access then faults. */
  readonly mmx?: true;
}

export type CaseBits = 32 | 64;

export interface TestCase {
  /** 32: compatibility mode. Default 64. */
  readonly bits?: CaseBits;
  /** RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 … R15. */
  readonly gprs: BigUint64Array;
  /** Only the bits of `RFLAGS_MASK` count; IF and bit 1 are always set. */
  readonly rflags: number;
  /** FXSAVE image (64-bit format, 512 bytes); undefined is the state after FNINIT with MXCSR = 0x1f80 and zero XMM. */
  readonly fx?: Uint8Array | undefined;
  readonly code: Uint8Array;
  /** Where in the code region the code lies, 0 ≤ codeOffset ≤ CODE_BYTES − code.length. Default 0. */
  readonly codeOffset?: number;
  readonly memory?: readonly MemoryPatch[];
  readonly ignore?: Ignore | undefined;
  /** Where instructions start (bytes into `code`) and what they are, for reports and for shrinking. */
  readonly instructions?: readonly CaseInstruction[] | undefined;
}

/**
 * - `trap`     the case ended in the exception `vector`
 * - `timeout`  it ran for some 10 ms without one; registers say where it was, which means little
 * - `syscall`  it executed SYSCALL, SYSENTER or INT 0x80; nothing else counts
 * - `lost`     the runner could not run it; nothing else counts
 */
export type ResultKind = "trap" | "timeout" | "syscall" | "lost";

export interface TestResult {
  readonly kind: ResultKind;
  readonly vector: number;
  /** As pushed by the exception; 0 where it has none. */
  readonly errorCode: number;
  /** Faulting address; 0 unless the vector is #PF. */
  readonly cr2: bigint;
  /** As pushed by the exception. */
  readonly rip: bigint;
  readonly rflags: number;
  readonly gprs: BigUint64Array;
  /** FXSAVE image with FOP, FIP, FDP, MXCSR_MASK and everything above byte 415 zero. */
  readonly fx: Uint8Array;
  /** Chunks of scratch memory that differ from what the case started with, ascending. */
  readonly memory: readonly MemoryPatch[];
}

/** Whatever can run cases: the host CPU, the interpreter, the translator, recorded vectors. */
export interface TestEngine {
  run(cases: readonly TestCase[]): TestResult[];
}

/** The bytes that scratch memory holds before a case's patches: a fixed xorshift sequence, the same in every run. */
export function background(): Uint8Array {
  if (backgroundBytes === undefined) {
    const words = new Uint32Array(SCRATCH_BYTES / 4);
    let x = 0x2545f491;
    for (let i = 0; i < words.length; i++) {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      words[i] = x;
    }
    backgroundBytes = new Uint8Array(words.buffer);
  }
  return backgroundBytes;
}
let backgroundBytes: Uint8Array | undefined;

/** Scratch memory as the case starts with it, 64 KiB. */
export function initialScratch(testCase: TestCase): Uint8Array {
  const scratch = background().slice();
  for (const patch of testCase.memory ?? []) scratch.set(patch.bytes, patch.offset);
  return scratch;
}

/** The chunks in which `actual` differs from `initial`: the form in which `TestResult.memory` has them. */
export function diffScratch(initial: Uint8Array, actual: Uint8Array): MemoryPatch[] {
  const a = new BigUint64Array(initial.buffer, initial.byteOffset, SCRATCH_BYTES / 8);
  const b = new BigUint64Array(actual.buffer, actual.byteOffset, SCRATCH_BYTES / 8);
  const chunks: MemoryPatch[] = [];
  for (let i = 0; i < a.length; i++) {
    if (a[i] === b[i]) continue;
    const offset = (i * 8) & ~(CHUNK_BYTES - 1);
    chunks.push({ offset, bytes: actual.slice(offset, offset + CHUNK_BYTES) });
    i = (offset + CHUNK_BYTES) / 8 - 1;
  }
  return chunks;
}

/** The FXSAVE image after FNINIT and LDMXCSR 0x1f80, with every register zero. */
export function defaultFx(): Uint8Array {
  const fx = new Uint8Array(FX_BYTES);
  const view = new DataView(fx.buffer);
  view.setUint16(0, 0x037f, true);
  view.setUint32(24, 0x1f80, true);
  return fx;
}

/** A case with defaults: registers zero but RSP, which points into the middle of scratch memory. */
export function makeCase(
  parts: Partial<Omit<TestCase, "gprs">> & { code: Uint8Array; gprs?: Partial<Record<number, bigint>> },
): TestCase {
  const gprs = new BigUint64Array(16);
  gprs[4] = BigInt(SCRATCH_BASE + SCRATCH_BYTES / 2);
  for (const [index, value] of Object.entries(parts.gprs ?? {})) gprs[Number(index)] = BigInt.asUintN(64, value ?? 0n);
  return { rflags: 0, ...parts, gprs };
}
