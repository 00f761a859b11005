import type { I32, I64, V128 } from "@xenoserver/wasm";

/** Operand widths in bytes. */
export type Width = 1 | 2 | 4 | 8;
export const bitsOf = (width: number): 8 | 16 | 32 | 64 => (width * 8) as 8 | 16 | 32 | 64;

/**
 * One operand. Integers travel as i64: `read` zero-extends, `readS` sign-extends the operand's width, `write` takes the low
 * bits. Reads happen at the call, so a value read before a write stays what it was.
 */
export interface Operand {
  readonly kind: string;
  readonly width: number;
  read(): I64;
  readS(): I64;
  write(value: I64): void;
  /** XMM, or 16 bytes of memory. */
  readV(): V128;
  writeV(value: V128): void;
}

/** The instruction that semantics are asked to emit, with operands already bound to registers, memory and immediates. */
export interface Instruction {
  readonly name: string;
  readonly operands: readonly Operand[];
  /** Operand size in bytes. */
  readonly width: Width;
  /** Address size in bytes: 2, 4 or 8. */
  readonly addressSize: number;
  /** Bytes of the stack pointer that count: 8 in 64-bit mode. */
  readonly stackSize: number;
  readonly mode64: boolean;
  readonly lock: boolean;
  /** True if both operands are known to be one register. */
  readonly isOfOneRegister: boolean;
  /** 0, 0xf2 or 0xf3. */
  readonly rep: number;
  /** Linear address of the memory operand. */
  address(): I64;
  /**
   * Linear address so many bytes behind the memory operand, in its segment; wraps as the address size says. Only for
   * encodings marked `a`, which have handlers for each address size.
   */
  addressPast(bytes: I64): I64;
  /** Base and number of the segment of an implied DS operand (strings, XLAT). */
  segmentBase(): I64;
  segmentNumber(): I32;
  /** First and second immediate as i32; constants where they are known. */
  imm(): I32;
  imm2(): I32;
  /** The immediate if the handler is made for one value of it. */
  readonly opcodeLow: number;
}

/** How the flags follow from an operation; values are sign-extended to 64 bits from their width. */
export type FlagRecipe =
  | { readonly kind: "add"; readonly a: I64; readonly b: I64; readonly res: I64 }
  /** `res` emits the difference; whoever keeps the operands needs it only where it is asked for. */
  | { readonly kind: "sub"; readonly a: I64; readonly b: I64; readonly res: () => I64 }
  | { readonly kind: "adc" | "sbb"; readonly a: I64; readonly b: I64; readonly res: I64; readonly carry: I64 }
  | { readonly kind: "logic"; readonly res: I64 }
  /** INC and DEC: as add or sub of 1, but CF stays. */
  | { readonly kind: "inc" | "dec"; readonly a: I64; readonly res: I64 }
  /** ZF, SF, PF from `res`; CF and OF (i64 0 or 1) as given; AF clear. */
  | { readonly kind: "explicit"; readonly res: I64; readonly cf: I64; readonly of: I64 };
