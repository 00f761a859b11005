import { Flag } from "./case.ts";
import type { CaseBuilder } from "./case-builder.ts";
import type { Prng } from "./prng.ts";
import type { Drawable } from "./traits.ts";

export interface Position {
  readonly index: number;
  readonly count: number;
}

/** What helpers prepared for the instruction after them. */
export interface Helped {
  /** REP or REPNE to put before a string instruction. */
  readonly repeat?: number;
  /** Register whose value is a small bit offset. */
  readonly bitOffset?: number;
  /** CL was given a count that a 16-bit SHLD or SHRD defines. */
  readonly smallCount?: boolean;
  /** Register that holds the address of a later instruction. */
  readonly target?: number;
}

/** Emits the instructions that make the next one do something sensible. */
export function emitHelpers(r: Prng, b: CaseBuilder, d: Drawable, at: Position): Helped {
  const { spec, name, traits } = d;
  if (traits.string) {
    if (!r.chance(45)) return {};
    if (r.chance(92)) moveImmediate(b, 1, r.chance(10) ? r.below(300) : r.below(24));
    return { repeat: r.chance(70) ? 0xf3 : 0xf2 };
  }
  if (traits.divide && r.chance(65)) divideHelper(r, b, spec.opcode, spec.reg ?? 6);
  if (traits.doubleShift && (spec.opcode & 1) === 1) {
    if (!r.chance(50)) return {};
    b.emit(0xb1, r.below(17));
    return { smallCount: true };
  }
  if (traits.bitString && r.chance(80)) {
    const register = freeRegister(r, b);
    moveImmediate(b, register, r.between(-2000, 2000));
    return { bitOffset: register };
  }
  if (traits.branch === "return") {
    pushTarget(r, b, at);
    b.moveStack();
  }
  if (traits.branch === "indirect") {
    const register = freeRegister(r, b);
    const target = r.between(at.index + 1, at.count);
    emitMoveOpcode(b, register);
    b.deferred(4, (code, starts) => code + starts[target]);
    b.branchTo(target);
    return { target: register };
  }
  if (name.startsWith("POPF")) {
    b.emit(0x68);
    b.number(drawFlags(r, b.alignmentCheck), 4);
    b.moveStack();
  }
  if (name.startsWith("PCMPESTR"))
    for (const register of [0, 2]) if (r.chance(70)) moveImmediate(b, register, r.between(-18, 18));
  if (name.startsWith("LOOP") || name.endsWith("CXZ")) if (r.chance(60)) moveImmediate(b, 1, r.below(3));
  return {};
}

/** A register that is neither pinned nor RAX, RCX or RDX, or RDX if all are taken. */
function freeRegister(r: Prng, b: CaseBuilder): number {
  const free = [3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].filter(
    (i) => (i < 8 || b.bits === 64) && (b.pinned & (1 << i)) === 0,
  );
  return free.length > 0 ? r.pick(free) : 2;
}

/** MOV of an imm32, up to the immediate; sign-extended in 64-bit mode. */
function emitMoveOpcode(b: CaseBuilder, register: number): void {
  if (b.bits === 64) b.emit(register > 7 ? 0x49 : 0x48);
  b.emit(0xc7, 0xc0 | (register & 7));
}

function moveImmediate(b: CaseBuilder, register: number, value: number): void {
  emitMoveOpcode(b, register);
  b.number(value, 4);
}

/** Makes the upper half of the dividend small, so that most quotients fit. */
function divideHelper(r: Prng, b: CaseBuilder, opcode: number, digit: number): void {
  if (opcode === 0xf6) b.emit(0xb4, r.chance(50) ? 0 : r.below(8));
  else if (digit === 7) b.emit(...r.pick([[0x99], b.bits === 64 ? [0x48, 0x99] : [0x99], [0x66, 0x99]]));
  else if (r.chance(50)) b.emit(0xba, r.below(4), 0, 0, 0);
  else {
    b.emit(0x83, 0xe2, 0x07);
    // AND EDX, 7 leaves AF undefined.
    b.leaveUndefined(Flag.AF);
  }
}

/** PUSH of the address of a later instruction, for RET. */
function pushTarget(r: Prng, b: CaseBuilder, at: Position): void {
  const target = r.between(at.index + 1, at.count);
  b.emit(0x68);
  b.deferred(4, (code, starts) => code + starts[target]);
  b.branchTo(target);
}

/** Flags for POPF: TF and AC seldom. */
function drawFlags(r: Prng, alignmentCheck: boolean): number {
  let flags = r.u32() & (Flag.CF | Flag.PF | Flag.AF | Flag.ZF | Flag.SF | Flag.OF | Flag.DF);
  if (r.chance(8)) flags |= Flag.TF;
  if (alignmentCheck && r.chance(5)) flags |= Flag.AC;
  if (r.chance(10)) flags |= Flag.ID | Flag.NT;
  return flags;
}
