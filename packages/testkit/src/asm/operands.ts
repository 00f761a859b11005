/** What an instruction of the assembler takes: registers, memory references, immediates, labels. Pure data. */

export type OperandBits = 8 | 16 | 32 | 64;
/** Processor mode the bytes are meant for; decides default operand and address size and whether REX exists. */
export type Mode = 16 | 32 | 64;

export interface Register {
  readonly kind: "gpr";
  readonly bits: OperandBits;
  /** 0–15, in the order of the encoding (rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8…). */
  readonly num: number;
  /** True for AH, CH, DH, BH; `num` is then 4–7 as encoded. */
  readonly high: boolean;
}
export interface SpecialRegister {
  readonly kind: "sreg" | "creg" | "dreg" | "xmm" | "mmx";
  readonly num: number;
}
/** A memory reference. `bits` is the size of the access, needed where no register tells it. */
export interface Mem {
  readonly kind: "mem";
  readonly bits: OperandBits | undefined;
  readonly base: Register | undefined;
  readonly index: Register | undefined;
  readonly scale: 1 | 2 | 4 | 8;
  readonly disp: number;
  /** Added to `disp`; with no base or index, RIP-relative in 64-bit mode. */
  readonly label: string | undefined;
  readonly segment: SpecialRegister | undefined;
}
/** The address of a label as an immediate. */
export interface LabelRef {
  readonly kind: "label";
  readonly name: string;
  readonly addend: number;
}
export type Immediate = number | bigint | LabelRef;
export type RegMem = Register | Mem;
export type Operand = Register | SpecialRegister | Mem | Immediate;

const gpr = (bits: OperandBits, num: number, high = false): Register => ({ kind: "gpr", bits, num, high });
const special = (kind: SpecialRegister["kind"], num: number): SpecialRegister => ({ kind, num });

/** The general register `num` (0–15) at the given width; 8-bit 4–7 are SPL, BPL, SIL, DIL. */
export const register = (num: number, bits: OperandBits): Register => gpr(bits, num);

export const [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi] = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => gpr(64, n)) as Eight;
export const [r8, r9, r10, r11, r12, r13, r14, r15] = [8, 9, 10, 11, 12, 13, 14, 15].map((n) => gpr(64, n)) as Eight;
export const [eax, ecx, edx, ebx, esp, ebp, esi, edi] = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => gpr(32, n)) as Eight;
export const [r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d] = [8, 9, 10, 11, 12, 13, 14, 15].map((n) =>
  gpr(32, n),
) as Eight;
export const [ax, cx, dx, bx, sp, bp, si, di] = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => gpr(16, n)) as Eight;
export const [al, cl, dl, bl, spl, bpl, sil, dil] = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => gpr(8, n)) as Eight;
export const [ah, ch, dh, bh] = [4, 5, 6, 7].map((n) => gpr(8, n, true)) as [Register, Register, Register, Register];
type Eight = [Register, Register, Register, Register, Register, Register, Register, Register];

export const [es, cs, ss, ds, fs, gs] = [0, 1, 2, 3, 4, 5].map((n) => special("sreg", n)) as SixSpecial;
type SixSpecial = [
  SpecialRegister,
  SpecialRegister,
  SpecialRegister,
  SpecialRegister,
  SpecialRegister,
  SpecialRegister,
];
export const cr = (num: number): SpecialRegister => special("creg", num);
export const dr = (num: number): SpecialRegister => special("dreg", num);
export const xmm = (num: number): SpecialRegister => special("xmm", num);
export const mm = (num: number): SpecialRegister => special("mmx", num);

export interface MemParts {
  readonly base?: Register;
  readonly index?: Register;
  readonly scale?: 1 | 2 | 4 | 8;
  readonly disp?: number;
  readonly label?: string;
  readonly segment?: SpecialRegister;
}

/**
 * A memory reference: `mem(64, rbx, 8)`, `mem(8, "message")`, `mem(32, 0xfee00020)`, `mem(64, { base, index, scale })`.
 * @param bits  size of the access; undefined where the instruction alone decides it (LGDT, LEA, FXSAVE)
 */
export function mem(bits: OperandBits | undefined, at: Register | string | number | MemParts, disp = 0): Mem {
  const parts: MemParts =
    typeof at === "string" ? { label: at } : typeof at === "number" ? { disp: at } : "kind" in at ? { base: at } : at;
  return {
    kind: "mem",
    bits,
    base: parts.base,
    index: parts.index,
    scale: parts.scale ?? 1,
    disp: (parts.disp ?? 0) + disp,
    label: parts.label,
    segment: parts.segment,
  };
}
export const byte = (at: Register | string | number | MemParts, disp = 0): Mem => mem(8, at, disp);
export const word = (at: Register | string | number | MemParts, disp = 0): Mem => mem(16, at, disp);
export const dword = (at: Register | string | number | MemParts, disp = 0): Mem => mem(32, at, disp);
export const qword = (at: Register | string | number | MemParts, disp = 0): Mem => mem(64, at, disp);
/** A reference without a size, for LEA, LGDT, FXSAVE and the like. */
export const ptr = (at: Register | string | number | MemParts, disp = 0): Mem => mem(undefined, at, disp);

/** The address of a label as an immediate operand. */
export const addressOf = (name: string, addend = 0): LabelRef => ({ kind: "label", name, addend });

export const isMem = (o: Operand): o is Mem => typeof o === "object" && o.kind === "mem";
export const isGpr = (o: Operand): o is Register => typeof o === "object" && o.kind === "gpr";
export const isImmediate = (o: Operand): o is Immediate => typeof o !== "object" || o.kind === "label";

/** Condition codes, in the order of the encoding (JO is 0x70, JNO 0x71 …). */
export const CONDITIONS = {
  o: 0,
  no: 1,
  b: 2,
  c: 2,
  nae: 2,
  ae: 3,
  nb: 3,
  nc: 3,
  e: 4,
  z: 4,
  ne: 5,
  nz: 5,
  be: 6,
  na: 6,
  a: 7,
  nbe: 7,
  s: 8,
  ns: 9,
  p: 10,
  pe: 10,
  np: 11,
  po: 11,
  l: 12,
  nge: 12,
  ge: 13,
  nl: 13,
  le: 14,
  ng: 14,
  g: 15,
  nle: 15,
} as const;
export type Condition = keyof typeof CONDITIONS;
