import {
  type CaseInstruction,
  CHUNK_BYTES,
  initialScratch,
  type MemoryPatch,
  RFLAGS_MASK,
  SCRATCH_BASE,
  type TestCase,
  type TestResult,
  Vector,
} from "./case.ts";
import { codeOffsetOf, ignoredAt, registerName } from "./describe.ts";

/** The first thing in which two results of a case differ. */
export interface Difference {
  /** "vector", "rip", "rax", "rflags", "st3", "xmm12", "memory+0x1f40" … */
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
}

/** Highest user address + 1: Linux sets the present bit in the error code of faults above, whatever was there. */
const USER_END = 1n << 47n;
const PRESENT = 1;
/** Bits of the x87 status word that say which register is ST(0). */
const FSW_TOP = 0x3800;

/**
 * Compares what the architecture defines: exception, RIP, error code, CR2, registers, flags, x87, SSE and memory.
 * @returns undefined if nothing differs, or if the expected result says nothing (timeout, system call, lost)
 */
export function compareResults(c: TestCase, expected: TestResult, actual: TestResult): Difference | undefined {
  if (expected.kind !== "trap") return undefined;
  return (
    differ("kind", expected.kind, actual.kind) ??
    compareTrap(expected, actual) ??
    compareRegisters(c, expected, actual) ??
    compareFx(c, expected, actual) ??
    compareMemory(c, expected, actual)
  );
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

function differ<T extends string | number | bigint>(what: string, expected: T, actual: T): Difference | undefined {
  if (expected === actual) return undefined;
  const text = (v: T): string => (typeof v === "string" ? v : hex(v));
  return { what, expected: text(expected), actual: text(actual) };
}

function compareTrap(expected: TestResult, actual: TestResult): Difference | undefined {
  const vectorNames = Object.entries(Vector);
  const name = (v: number): string => `#${vectorNames.find(([, n]) => n === v)?.[0] ?? v}`;
  const where = (r: TestResult): string => `${name(r.vector)} at ${hex(r.rip)}`;
  if (expected.vector !== actual.vector || expected.rip !== actual.rip) {
    return {
      what: expected.vector !== actual.vector ? "vector" : "rip",
      expected: where(expected),
      actual: where(actual),
    };
  }
  const open = expected.vector === Vector.PF && expected.cr2 >= USER_END ? PRESENT : 0;
  return (
    differ("cr2", expected.cr2, actual.cr2) ??
    differ("error code", expected.errorCode & ~open, actual.errorCode & ~open)
  );
}

function compareRegisters(c: TestCase, expected: TestResult, actual: TestResult): Difference | undefined {
  const [count, bits] = c.bits === 32 ? [8, 32] : [16, 64];
  for (let i = 0; i < count; i++) {
    if (expected.gprs[i] === actual.gprs[i]) continue;
    const d = differ(registerName(i), BigInt.asUintN(bits, expected.gprs[i]), BigInt.asUintN(bits, actual.gprs[i]));
    if (d) return d;
  }
  const mask = RFLAGS_MASK & ~ignoredAt(c, c.ignore?.rflags, expected);
  return differ("rflags", expected.rflags & mask, actual.rflags & mask);
}

function compareFx(c: TestCase, expected: TestResult, actual: TestResult): Difference | undefined {
  if (expected.fx === actual.fx || Buffer.compare(expected.fx, actual.fx) === 0) return undefined;
  const e = new DataView(expected.fx.buffer, expected.fx.byteOffset);
  const a = new DataView(actual.fx.buffer, actual.fx.byteOffset);
  const unsettled = faultedInstruction(c, expected)?.mmx ?? false;
  const mask = 0xffff & ~ignoredAt(c, c.ignore?.fsw, expected) & ~(unsettled ? FSW_TOP : 0);
  const fsw = e.getUint16(2, true);
  const control =
    differ("mxcsr", e.getUint32(24, true), a.getUint32(24, true)) ??
    differ("fcw", e.getUint16(0, true), a.getUint16(0, true)) ??
    differ("fsw", fsw & mask, a.getUint16(2, true) & mask) ??
    (unsettled ? undefined : differ("ftw (abridged)", e.getUint8(4), a.getUint8(4)));
  if (control) return control;
  for (let i = 0; i < 8 && !unsettled; i++) {
    const physical = ((fsw >> 11) + i) & 7;
    // Nothing but a store of the whole state can see an empty register.
    if ((e.getUint8(4) & (1 << physical)) === 0) continue;
    const at = 32 + 16 * i;
    const st = (v: DataView): string => `${hex(v.getUint16(at + 8, true))}:${hex(v.getBigUint64(at, true))}`;
    const d = differ(`st${i}`, st(e), st(a));
    if (d) return d;
  }
  for (let i = 0; i < (c.bits === 32 ? 8 : 16); i++) {
    const at = 160 + 16 * i;
    const value = (v: DataView): bigint => (v.getBigUint64(at + 8, true) << 64n) | v.getBigUint64(at, true);
    const d = differ(`xmm${i}`, value(e), value(a));
    if (d) return d;
  }
  return undefined;
}

function compareMemory(c: TestCase, expected: TestResult, actual: TestResult): Difference | undefined {
  if (sameChunks(expected.memory, actual.memory)) return undefined;
  const [e, a] = [applied(c, expected), applied(c, actual)];
  for (const range of c.ignore?.memory ?? []) {
    for (const image of [e, a]) image.fill(0, range.offset, range.offset + range.lengthBytes);
  }
  const partial = partialStackBytes(c, expected);
  if (partial > 0) {
    const top = Number(expected.gprs[4]) - SCRATCH_BASE;
    for (const image of [e, a]) image.fill(0, Math.max(0, top - partial), Math.max(0, top));
  }
  const at = e.findIndex((byte, i) => byte !== a[i]);
  if (at < 0) return undefined;
  const text = (image: Uint8Array): string =>
    [...image.subarray(at, at + 16)].map((b) => b.toString(16).padStart(2, "0")).join(" ");
  return { what: `memory+${hex(at)}`, expected: text(e), actual: text(a) };
}

/** Bytes below RSP that the instruction which faulted may have written in part. */
function partialStackBytes(c: TestCase, r: TestResult): number {
  if (c.ignore?.partialStack === undefined) return 0;
  const current = faultedInstruction(c, r);
  return c.ignore.partialStack.find((x) => x.at === current?.at)?.lengthBytes ?? 0;
}

/** The instruction that ended the case by a fault of its own. */
function faultedInstruction(c: TestCase, r: TestResult): CaseInstruction | undefined {
  if (r.vector === Vector.BP || r.vector === Vector.DB) return undefined;
  const at = codeOffsetOf(c, r);
  return c.instructions?.findLast((x) => x.at <= at);
}

function sameChunks(a: readonly MemoryPatch[], b: readonly MemoryPatch[]): boolean {
  return (
    a.length === b.length &&
    a.every(
      (chunk, i) =>
        chunk.offset === b[i].offset &&
        chunk.bytes.length === CHUNK_BYTES &&
        Buffer.compare(chunk.bytes, b[i].bytes) === 0,
    )
  );
}

function applied(c: TestCase, r: TestResult): Uint8Array {
  const scratch = initialScratch(c);
  for (const chunk of r.memory) scratch.set(chunk.bytes, chunk.offset);
  return scratch;
}
