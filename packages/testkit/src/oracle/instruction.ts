import { SCRATCH_BASE } from "./case.ts";
import type { CaseBuilder } from "./case-builder.ts";
import type { EncodingSpec } from "./encoding-spec.ts";
import type { Helped, Position } from "./generate-helpers.ts";
import { address16, addressTarget, drawTarget, type MemoryOperand } from "./memory-operand.ts";
import { fillOperand, implementationDefined } from "./operand-contents.ts";
import type { Prng } from "./prng.ts";
import { type Drawable, memoryBytes, requiredAlignment } from "./traits.ts";
import { flagEffect, statusEffect } from "./undefined-flags.ts";
import { immediateBytes } from "./values.ts";

const MAP_BYTES = { "1": [], "0f": [0x0f], "0f38": [0x0f, 0x38], "0f3a": [0x0f, 0x3a] } as const;
const MANDATORY = { np: undefined, "66": 0x66, f2: 0xf2, f3: 0xf3 } as const;

/** Prefixes and operand size of one drawn instruction. */
interface Shape {
  readonly prefixes: number[];
  rex: number;
  /** 2, 4 or 8. */
  readonly operandBytes: number;
  readonly rexW: boolean;
}

/** Emits one instruction of the encoding with drawn operands. */
export function emitInstruction(r: Prng, b: CaseBuilder, d: Drawable, given: Helped & Position): void {
  const { spec, name, traits } = d;
  const shape = drawShape(r, b, d, given);
  const last = given.index === given.count - 1;
  const rm = spec.modrm ? drawModrm(r, b, d, shape, given, last) : undefined;
  let plusR = 0;
  if (spec.plusR) {
    plusR = drawRegister(
      r,
      b,
      shape,
      spec.operands.some((o) => /^Zb$/.test(o)),
    );
    if (plusR > 7) shape.rex |= 0x41;
  }
  const moffs = spec.operands.find((o) => o[0] === "O");
  const immediates = drawImmediates(r, d, shape);
  const count = name.startsWith("S") || name.startsWith("R") ? shiftCount(spec, immediates) : undefined;
  const flags = flagEffect(spec, name, flagBits(spec, shape), count);
  // The flags are settled before the first byte of the instruction, and a fault there belongs to the settling.
  if ((b.undefinedFlags & flags.reads) !== 0) b.settleFlags();

  if (traits.lockable && rm?.memory && spec.operands[0]?.[0] !== "G" && r.chance(18)) shape.prefixes.push(0xf0);
  else if (last && r.chance(0.5)) shape.prefixes.push(0xf0);
  if (rm?.memory?.segmentPrefix !== undefined) shape.prefixes.push(rm.memory.segmentPrefix);
  if (rm?.memory?.addressPrefix) shape.prefixes.push(0x67);
  shuffle(r, shape.prefixes);
  b.emit(...shape.prefixes);
  if (shape.rex !== 0) b.emit(shape.rex | 0x40);
  b.emit(...MAP_BYTES[spec.map], spec.opcode + (plusR & 7));
  if (moffs) {
    const address = drawTarget(r, {
      bytes: shape.operandBytes,
      alignment: 1,
      mayFault: last,
      aligned: false,
      reserved: false,
    });
    b.number(address, b.bits / 8);
  }
  if (rm) emitModrm(b, rm, immediates.length);
  b.emit(...immediates);
  emitBranch(r, b, d, given);
  if (traits.stack) b.moveStack();
  if (name === "ENTER") b.ignorePartialStack(8 * 33);
  if (name.startsWith("PUSHA")) b.ignorePartialStack(32);
  b.apply(flags, statusEffect(spec, name), traits.branch !== undefined);
}

function drawShape(r: Prng, b: CaseBuilder, d: Drawable, given: Helped): Shape {
  const { spec, name, traits } = d;
  const prefixes: number[] = [];
  const mandatory = spec.prefix === undefined ? undefined : MANDATORY[spec.prefix];
  if (mandatory !== undefined) prefixes.push(mandatory);
  if (given.repeat !== undefined) prefixes.push(given.repeat);
  const vector = spec.operands.some((o) => /^[VWUPQN]/.test(o));
  const fixedSize = spec.prefix === "np" || vector || traits.branch !== undefined;
  // A 16-bit BSWAP is undefined; a 16-bit SHLD or SHRD by more than 16 as well.
  const no16 = name === "BSWAP" || (traits.doubleShift && (spec.opcode & 1) === 1 && !given.smallCount);
  const small = mandatory !== 0x66 && !fixedSize && !no16 && r.chance(traits.x87 ? 4 : 22);
  if (small) prefixes.push(0x66);
  const long = b.bits === 64;
  const rexW = !long ? false : spec.rexW === undefined ? r.chance(vector ? 20 : traits.x87 ? 4 : 35) : spec.rexW === 1;
  if (
    (traits.string && r.chance(6)) ||
    (spec.map === "1" && spec.opcode >= 0xe0 && spec.opcode <= 0xe3 && r.chance(20))
  ) {
    prefixes.push(0x67);
  }
  if (
    spec.map === "1" &&
    !traits.string &&
    !traits.branch &&
    spec.prefix === undefined &&
    spec.opcode !== 0x90 &&
    r.chance(1.5)
  ) {
    prefixes.push(r.pick([0xf2, 0xf3]));
  }
  if (prefixes.length > 0 && r.chance(2)) prefixes.push(r.pick(prefixes));
  const rex = rexW ? 0x48 : long && r.chance(20) ? 0x40 : 0;
  const default64 = long && (traits.stack || traits.branch !== undefined);
  return { prefixes, rex, rexW, operandBytes: rexW || (default64 && !small) ? 8 : small || mandatory === 0x66 ? 2 : 4 };
}

interface Modrm {
  /** reg field, 0–7. */
  reg: number;
  /** Register in r/m, 0–7, if there is no memory operand. */
  rm: number;
  readonly memory: MemoryOperand | undefined;
}

function drawModrm(r: Prng, b: CaseBuilder, d: Drawable, shape: Shape, given: Helped, last: boolean): Modrm {
  const { spec, traits } = d;
  const inReg = spec.operands.find((o) => /^[GVPSCD]/.test(o)) ?? "";
  const inRm = spec.operands.find((o) => /^[EMRWUQN]/.test(o)) ?? "";
  let reg = spec.reg ?? 0;
  if (spec.reg === undefined) {
    if (/^[GR]/.test(inReg) && given.bitOffset !== undefined) reg = given.bitOffset;
    else if (/^G/.test(inReg)) reg = drawRegister(r, b, shape, inReg === "Gb");
    else reg = /^[PSCD]/.test(inReg) ? r.below(8) : r.below(registerRange(r, b, shape));
    if (reg > 7) shape.rex |= 0x44;
  }
  const toMemory =
    spec.modOnly === "mem" || (spec.modOnly === undefined && r.chance(given.target === undefined ? 55 : 0));
  if (toMemory) {
    const memory = drawMemory(r, b, d, shape, inRm, last);
    if (memory.rexB) shape.rex |= 0x41;
    if (memory.rexX) shape.rex |= 0x42;
    return { reg: reg & 7, rm: 0, memory };
  }
  let rm = spec.rm ?? 0;
  if (spec.rm === undefined) {
    if (given.target !== undefined) rm = given.target;
    else if (/^[ER]/.test(inRm)) rm = drawRegister(r, b, shape, inRm === "Eb");
    else rm = /^[QN]/.test(inRm) || traits.x87 ? r.below(8) : r.below(registerRange(r, b, shape));
    if (rm > 7) shape.rex |= 0x41;
  }
  // Without REX, 4–7 in the reg field of a byte instruction are AH…BH; a later REX makes them SPL…DIL.
  return { reg: reg & 7, rm: rm & 7, memory: undefined };
}

function drawMemory(r: Prng, b: CaseBuilder, d: Drawable, shape: Shape, operand: string, last: boolean): MemoryOperand {
  const { spec, name, traits } = d;
  if (b.bits === 32 && (name === "LEA" ? r.chance(20) : last && r.chance(2))) return address16(r);
  const bytes = memoryBytes(spec, operand, shape.operandBytes, shape.rexW);
  const reserved = implementationDefined(name) !== undefined;
  const target = drawTarget(r, {
    bytes,
    alignment: requiredAlignment(spec, bytes),
    mayFault: last,
    aligned: traits.lockable,
    reserved,
  });
  const memory = addressTarget(
    r,
    target,
    // Where contents are not compared must be known for certain.
    reserved && b.overwritten ? [] : b.known,
    reserved || traits.lockable || requiredAlignment(spec, bytes) > 1,
    b.bits,
  );
  fillOperand(r, b, d, memory.target, bytes);
  for (const [from, to] of implementationDefined(name)?.(shape.prefixes.includes(0x66)) ?? []) {
    b.ignoreMemory(memory.target - SCRATCH_BASE + from, to - from);
  }
  return memory;
}

/** How many registers the instruction can name; more than eight need REX. */
const registerRange = (r: Prng, b: CaseBuilder, shape: Shape): 8 | 16 =>
  b.bits === 64 && (shape.rex !== 0 || r.chance(40)) ? 16 : 8;

/** A register number whose use leaves pinned registers alone; now and then any. */
function drawRegister(r: Prng, b: CaseBuilder, shape: Shape, byteOperand: boolean): number {
  const range = registerRange(r, b, shape);
  for (let tries = 0; tries < 20; tries++) {
    const n = r.below(range);
    // AH…BH belong to RAX…RBX; whether REX comes is open yet, so both owners count.
    const owners = byteOperand && n >= 4 && n < 8 ? (1 << n) | (1 << (n & 3)) : 1 << n;
    if ((b.pinned & owners) === 0) return n;
    if ((b.fixed & owners) === 0 && r.chance(2)) {
      b.overwritten = true;
      return n;
    }
  }
  return 0;
}

function drawImmediates(r: Prng, d: Drawable, shape: Shape): number[] {
  const out: number[] = [];
  for (const operand of d.spec.operands) {
    if (operand[0] !== "I") continue;
    const size = operand.slice(1);
    const z = Math.min(shape.operandBytes, 4);
    const bytes =
      (
        { b: 1, bs: 1, bss: 1, bu: 1, w: 2, d: 4, q: 8, v: shape.operandBytes, z, y: shape.rexW ? 8 : 4 } as Record<
          string,
          number
        >
      )[size] ?? 1;
    out.push(...drawImmediate(r, d, bytes, out.length, shape));
  }
  return out;
}

function drawImmediate(r: Prng, d: Drawable, bytes: number, before: number, shape: Shape): number[] {
  if (d.name === "ENTER")
    return before === 0 ? [r.below(256), r.chance(5) ? r.below(16) : 0] : [r.chance(80) ? r.below(4) : r.below(256)];
  if (d.traits.branch === "return") return [r.below(64), 0];
  // INT 0x80 is a system call; INT 1 and 3 have encodings of their own but are as good.
  if (d.spec.map === "1" && d.spec.opcode === 0xcd) return [r.pick([0, 1, 3, 4, 5, 13, 32, 0x81, 255])];
  if (d.traits.doubleShift) return [shape.operandBytes === 2 ? r.below(17) | (r.below(8) << 5) : r.below(256)];
  if (bytes === 1 && r.chance(40)) return [r.below(256)];
  return immediateBytes(r, bytes);
}

function emitModrm(b: CaseBuilder, m: Modrm, immediateCount: number): void {
  const mem = m.memory;
  if (mem === undefined) {
    b.emit(0xc0 | (m.reg << 3) | m.rm);
    return;
  }
  b.emit(mem.modrm | (m.reg << 3));
  if (mem.sib !== undefined) b.emit(mem.sib);
  if (mem.ripRelative) {
    const end = b.code.length + 4 + immediateCount;
    b.deferred(4, (code) => mem.effective - (code + end));
  } else b.number(mem.displacement, mem.displacementBytes);
}

/** The displacement of a relative branch: to a later instruction or the end, seldom anywhere near. */
function emitBranch(r: Prng, b: CaseBuilder, d: Drawable, at: Position): void {
  if (d.traits.branch !== "relative") return;
  const operand = d.spec.operands.find((o) => o[0] === "J") ?? "Jz";
  const bytes = operand === "Jb" ? 1 : 4;
  const end = b.code.length + bytes;
  const target = r.between(at.index + 1, at.count);
  b.branchTo(target);
  b.deferred(bytes, (_, starts) => starts[target] - end);
}

function shiftCount(spec: EncodingSpec, immediates: readonly number[]): number | undefined {
  if (spec.operands.some((o) => o === "CL")) return undefined;
  return immediates.length > 0 ? immediates[0] : 1;
}

function flagBits(spec: EncodingSpec, shape: Shape): number {
  const operand = spec.operands[0] ?? "";
  return operand === "Eb" || operand === "AL" ? 8 : 8 * shape.operandBytes;
}

function shuffle(r: Prng, items: number[]): void {
  for (let i = items.length - 1; i > 0; i--) {
    const k = r.below(i + 1);
    [items[i], items[k]] = [items[k], items[i]];
  }
}
