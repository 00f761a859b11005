import type { InstructionDef } from "../semantics/define.ts";
import type { Encoding } from "./encoding.ts";

/** Where an operand is, after decoding. */
export type DecodedOperand =
  | { readonly kind: "gpr"; readonly reg: number; readonly width: number; readonly high: boolean }
  | { readonly kind: "mem"; readonly width: number }
  | { readonly kind: "imm"; readonly width: number }
  | { readonly kind: "xmm"; readonly reg: number; readonly width: number }
  | { readonly kind: "mmx"; readonly reg: number; readonly width: number }
  | { readonly kind: "sreg"; readonly reg: number; readonly width: 2 }
  | { readonly kind: "st"; readonly reg: number; readonly width: number }
  | { readonly kind: "creg" | "dreg"; readonly reg: number; readonly width: number }
  | { readonly kind: "rel"; readonly width: number }
  | { readonly kind: "none"; readonly width: 0 };

/** Segment numbers in the order of the instruction encoding. */
export const Seg = { es: 0, cs: 1, ss: 2, ds: 3, fs: 4, gs: 5 } as const;

/** A decoded memory operand; −1 stands for an absent base or index. */
export interface MemoryOperand {
  base: number;
  index: number;
  /** Shift count of the index, 0–3. */
  scale: number;
  /** Displacement, sign-extended from its encoding. */
  disp: number;
  /** High half of a 64-bit absolute address (`O` operands); otherwise the sign of `disp`. */
  dispHi: number;
  segment: number;
  ripRelative: boolean;
}

/** One instruction, decoded. */
export interface Decoded {
  def: InstructionDef;
  encoding: Encoding;
  /** Operand size in bytes: 2, 4 or 8; 1 only through byte operands. */
  operandSize: number;
  /** Address size in bytes: 2, 4 or 8. */
  addressSize: number;
  lengthBytes: number;
  /** Bytes before displacement and immediates: prefixes, opcode, ModRM and SIB, which choose everything but numbers. */
  fixedBytes: number;
  dispBytes: number;
  lock: boolean;
  /** 0 none, 0xf2 REPNE, 0xf3 REP. */
  rep: number;
  rexW: boolean;
  rexR: boolean;
  rexB: boolean;
  /** Segment override, or −1. */
  segmentOverride: number;
  operands: DecodedOperand[];
  memory: MemoryOperand | undefined;
  immLo: number;
  immHi: number;
  /** Second immediate (ENTER, EXTRQ), otherwise 0. */
  imm2: number;
  modrm: number;
  /** Selector of an immediate far pointer. */
  farSelector: number;
}
