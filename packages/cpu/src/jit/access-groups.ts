/**
 * Which accesses of a block go to one page as a rule: those at fixed distances from one another, such as the fields of a structure
 * or what a function pushes. One look into the TLB serves them all.
 */
import { type Decoded, Seg } from "../decode/decoded.ts";
import type { PlacedInstruction } from "./region.ts";

const [RSP, RBP] = [4, 5];

/** Accesses that share a look into the TLB, which happens at the first of them. */
export interface AccessGroup {
  /** 0, 1 … within the block. */
  readonly id: number;
  /** Bytes from the lowest to the highest that any of them touches. */
  readonly spanBytes: number;
  /** Whether the first of them writes; otherwise none does. */
  readonly isWrite: boolean;
  /**
   * None of them lies on two pages if the lowest byte's address leaves that rest, divided by so many bytes. Undefined if one may
   * wherever that is.
   */
  readonly alignment: { readonly bytes: number; readonly rest: number } | undefined;
}
/** An instruction's only access, as a member of a group. */
export interface GroupedAccess {
  readonly group: AccessGroup;
  /** From the lowest byte of the group. */
  readonly offset: number;
  readonly sizeBytes: number;
}

/** Groups must not be wide: an access that alone lies within a page suffers from others that do not. */
export const MAX_SPAN_BYTES = 128;

/** An access at an address that is `delta` from what `key` stands for. */
interface Access {
  readonly key: string;
  readonly delta: number;
  readonly sizeBytes: number;
  readonly isWrite: boolean;
}
/** A register's value: what some register was at some time, and how far it is from that. */
interface Value {
  readonly origin: number;
  readonly offset: number;
}
interface OpenGroup {
  low: number;
  high: number;
  readonly isWrite: boolean;
  readonly members: { readonly index: number; readonly access: Access }[];
}

/** @returns for each instruction its access as a member of a group, undefined if it is alone or has none */
export function groupAccesses(instructions: readonly PlacedInstruction[]): (GroupedAccess | undefined)[] {
  const values = new Values();
  const open = new Map<string, OpenGroup>();
  const all: OpenGroup[] = [];
  instructions.forEach(({ d, place }, index) => {
    const access = accessOf(d, place + d.lengthBytes, values);
    if (access) join(access, index, open, all);
    if (!values.execute(d)) open.clear();
  });
  const planned: (GroupedAccess | undefined)[] = instructions.map(() => undefined);
  all
    .filter(({ members }) => members.length > 1)
    .forEach(({ low, high, isWrite, members }, id) => {
      const alignment = alignmentOf(
        members.map(({ access }) => ({ offset: access.delta - low, size: access.sizeBytes })),
      );
      const group = { id, spanBytes: high - low, isWrite, alignment };
      for (const { index, access } of members)
        planned[index] = { group, offset: access.delta - low, sizeBytes: access.sizeBytes };
    });
  return planned;
}

/** Where all accesses of a group are aligned by their own sizes. */
function alignmentOf(accesses: readonly { offset: number; size: number }[]): AccessGroup["alignment"] {
  // What is not a power of two long is as if it were longer.
  const aligned = accesses.map(({ offset, size }) => ({ offset, bytes: 2 ** Math.ceil(Math.log2(size)) }));
  const bytes = Math.max(...aligned.map((access) => access.bytes));
  for (let rest = 0; rest < bytes; rest++)
    if (aligned.every((access) => (rest + access.offset) % access.bytes === 0)) return { bytes, rest };
  return undefined;
}

function join(access: Access, index: number, open: Map<string, OpenGroup>, all: OpenGroup[]): void {
  const { key, delta, sizeBytes, isWrite } = access;
  const group = open.get(key);
  if (group && (group.isWrite || !isWrite)) {
    const [low, high] = [Math.min(group.low, delta), Math.max(group.high, delta + sizeBytes)];
    if (high - low <= MAX_SPAN_BYTES) {
      group.low = low;
      group.high = high;
      group.members.push({ index, access });
      return;
    }
  }
  const fresh = { low: delta, high: delta + sizeBytes, isWrite, members: [{ index, access }] };
  open.set(key, fresh);
  all.push(fresh);
}

// What instructions access

const ARITHMETIC = "ADD OR ADC SBB AND SUB XOR INC DEC NEG NOT SHL SHR SAR ROL ROR";
/** Change their first operand, which may be in memory. */
const CHANGES = new Set(ARITHMETIC.split(" "));
/** Only read what they have in memory. */
const READS = new Set(
  (
    "CMP TEST MOVZX MOVSX MOVSXD IMUL MUL DIV IDIV POPCNT BSF BSR PADDQ PADDD PADDW PADDB PSUBQ PSUBD PSUBW PSUBB PXOR POR PAND PANDN " +
    "PSHUFB PSHUFD PCMPEQB PCMPEQW PCMPEQD PMINUB PUNPCKLQDQ PUNPCKLDQ PMULUDQ ADDSD MULSD SUBSD DIVSD ADDSS MULSS SUBSS DIVSS " +
    "UCOMISD COMISD UCOMISS COMISS CVTSI2SD CVTSI2SS AESENC AESENCLAST AESDEC AESDECLAST"
  ).split(" "),
);
/** Read or write memory, by where the operand stands. */
const MOVES = new Set("MOV MOVUPS MOVAPS MOVQ MOVD MOVSS MOVSD".split(" "));
const CMOV = /^CMOV/;
const SET = /^SET/;
/** Neither access memory nor write a general register. */
const NEUTRAL = /^(J\w+|NOP)$/;

function accessOf(d: Decoded, next: number, values: Values): Access | undefined {
  const stack = stackAccessOf(d, values);
  if (stack) return stack;
  const m = d.memory;
  if (!m || d.lock || d.addressSize !== 8 || d.rep !== 0) return undefined;
  const { name } = d.def;
  const position = d.operands.findIndex(({ kind }) => kind === "mem");
  if (position < 0) return undefined;
  const { width } = d.operands[position];
  if (width === 0 || width > 16) return undefined;
  const writes = position === 0 && (CHANGES.has(name) || MOVES.has(name) || SET.test(name));
  const reads = READS.has(name) || ((MOVES.has(name) || CHANGES.has(name) || CMOV.test(name)) && position > 0);
  if (!writes && !reads) return undefined;
  const segment = m.segment < Seg.fs ? "" : `s${m.segment}`;
  if (m.ripRelative) {
    const delta = next + m.disp;
    return { key: `rip${Math.floor(delta / 4096)}${segment}`, delta, sizeBytes: width, isWrite: writes };
  }
  // An address of 64 bits by itself.
  if (m.dispHi !== (m.disp < 0 ? -1 : 0)) return undefined;
  const base = m.base < 0 ? NOTHING : values.of(m.base);
  const index = m.index < 0 ? NOTHING : values.of(m.index);
  const delta = base.offset + index.offset * 2 ** m.scale + m.disp;
  const key = `${base.origin}+${index.origin}*${m.scale}${segment}`;
  return { key, delta, sizeBytes: width, isWrite: writes };
}
const NOTHING: Value = { origin: -1, offset: 0 };

/** PUSH and POP of registers, calls and returns. */
function stackAccessOf(d: Decoded, values: Values): Access | undefined {
  if (d.memory) return undefined;
  const at = (value: Value, delta: number, isWrite: boolean): Access => ({
    key: `${value.origin}+-1*0`,
    delta: value.offset + delta,
    sizeBytes: d.operandSize,
    isWrite,
  });
  switch (d.def.name) {
    case "PUSH":
    case "CALL":
    case "CALL indirect":
      return at(values.of(RSP), -d.operandSize, true);
    case "POP":
    case "RET":
    case "RET imm":
      return at(values.of(RSP), 0, false);
    case "LEAVE":
      return at(values.of(RBP), 0, false);
    default:
      return undefined;
  }
}

// What instructions do to registers

/** What is known of the registers' values, instruction by instruction. */
class Values {
  private next = 16;
  private readonly regs: Value[] = Array.from({ length: 16 }, (_, origin) => ({ origin, offset: 0 }));

  of(reg: number): Value {
    return this.regs[reg];
  }
  private forget(reg: number): void {
    this.regs[reg] = { origin: this.next++, offset: 0 };
  }
  private move(to: number, from: Value, by: number): void {
    this.regs[to] = { origin: from.origin, offset: from.offset + by };
  }

  /** @returns false if the instruction may do anything to registers and to how addresses are translated */
  execute(d: Decoded): boolean {
    const { name } = d.def;
    if (NEUTRAL.test(name)) return true;
    if (this.executeStack(d)) return true;
    const known = CHANGES.has(name) || READS.has(name) || MOVES.has(name) || CMOV.test(name) || SET.test(name);
    if (!known && name !== "LEA" && name !== "CBW" && name !== "CWD" && name !== "BSWAP") {
      for (let reg = 0; reg < 16; reg++) this.forget(reg);
      return false;
    }
    if (/^(MUL|DIV|IDIV|IMUL|CBW|CWD)$/.test(name)) {
      this.forget(0);
      this.forget(2);
    }
    const first = d.operands[0];
    if (first?.kind === "gpr" && name !== "CMP" && name !== "TEST") this.write(d, first.reg);
    return true;
  }

  /** The first operand, a register. */
  private write(d: Decoded, reg: number): void {
    const [first, second] = d.operands;
    const isWhole = first.width === 8;
    const { name } = d.def;
    if (isWhole && name === "MOV" && second?.kind === "gpr") return this.move(reg, this.of(second.reg), 0);
    if (isWhole && (name === "ADD" || name === "SUB") && second?.kind === "imm") {
      const by = second.width === 1 ? (d.immLo << 24) >> 24 : d.immLo;
      return this.move(reg, this.of(reg), name === "ADD" ? by : -by);
    }
    const m = d.memory;
    if (isWhole && name === "LEA" && m && m.base >= 0 && m.index < 0 && d.addressSize === 8 && !m.ripRelative)
      return this.move(reg, this.of(m.base), m.disp);
    this.forget(reg);
  }

  private executeStack(d: Decoded): boolean {
    const size = d.operandSize;
    switch (d.def.name) {
      case "PUSH":
      case "CALL":
      case "CALL indirect":
        this.move(RSP, this.of(RSP), -size);
        return true;
      case "POP":
        this.move(RSP, this.of(RSP), size);
        // Into memory: the address is formed with the new pointer, and that is all.
        if (d.operands[0].kind === "gpr") this.forget(d.operands[0].reg);
        return true;
      case "RET":
      case "RET imm":
        this.forget(RSP);
        return true;
      case "LEAVE":
        this.move(RSP, this.of(RBP), size);
        this.forget(RBP);
        return true;
      default:
        return false;
    }
  }
}
