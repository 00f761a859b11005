/**
 * A cut through the instruction set as a table for the generator: enough to test the chain from table to comparison
 * without any engine. Engines bring their own, complete table.
 */
import type { EncodingSpec } from "./encoding-spec.ts";

type Extras = Partial<Omit<EncodingSpec, "mnemonic" | "map" | "opcode" | "operands">>;
const MODRM = /^[EGMRVWUPQNS]/;

function spec(
  map: EncodingSpec["map"],
  mnemonic: string,
  opcode: number,
  operands: string,
  extras: Extras = {},
): EncodingSpec {
  const list = operands === "" ? [] : operands.split(",");
  const modrm = extras.reg !== undefined || list.some((o) => MODRM.test(o));
  return { mnemonic, map, opcode, operands: list, modrm, ...extras };
}
const one = (mnemonic: string, opcode: number, operands = "", extras: Extras = {}) =>
  spec("1", mnemonic, opcode, operands, extras);
const two = (mnemonic: string, opcode: number, operands = "", extras: Extras = {}) =>
  spec("0f", mnemonic, opcode, operands, extras);

const alu = ["ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP"].flatMap((name, n) => [
  one(name, n * 8, "Eb,Gb"),
  one(name, n * 8 + 1, "Ev,Gv"),
  one(name, n * 8 + 2, "Gb,Eb"),
  one(name, n * 8 + 3, "Gv,Ev"),
  one(name, n * 8 + 4, "AL,Ib"),
  one(name, n * 8 + 5, "eAX,Iz"),
  one(name, 0x80, "Eb,Ib", { reg: n }),
  one(name, 0x81, "Ev,Iz", { reg: n }),
  one(name, 0x83, "Ev,Ibs", { reg: n }),
]);
const shifts = ["ROL", "ROR", "RCL", "RCR", "SHL", "SHR", "SAL", "SAR"].flatMap((name, reg) => [
  one(name, 0xc0, "Eb,Ib", { reg }),
  one(name, 0xc1, "Ev,Ib", { reg }),
  one(name, 0xd0, "Eb,1", { reg }),
  one(name, 0xd1, "Ev,1", { reg }),
  one(name, 0xd2, "Eb,CL", { reg }),
  one(name, 0xd3, "Ev,CL", { reg }),
]);
const group3 = ["TEST", "TEST", "NOT", "NEG", "MUL", "IMUL", "DIV", "IDIV"].flatMap((name, reg) => [
  one(name, 0xf6, reg < 2 ? "Eb,Ib" : "Eb", { reg }),
  one(name, 0xf7, reg < 2 ? "Ev,Iz" : "Ev", { reg }),
]);
const bits = ["BT", "BTS", "BTR", "BTC"].flatMap((name, n) => [
  two(name, 0xa3 + 8 * n, "Ev,Gv"),
  two(name, 0xba, "Ev,Ib", { reg: 4 + n }),
]);
const conditions = Array.from({ length: 16 }, (_, n) => [
  one("JCC", 0x70 + n, "Jb"),
  two("JCC", 0x80 + n, "Jz"),
  two("SETCC", 0x90 + n, "Eb", { reg: 0 }),
  two("CMOVCC", 0x40 + n, "Gv,Ev"),
]).flat();
const strings = ["MOVS", "CMPS", "STOS", "LODS", "SCAS"].flatMap((name, n) => {
  const opcode = [0xa4, 0xa6, 0xaa, 0xac, 0xae][n];
  return [one(name, opcode), one(name, opcode + 1)];
});

const integer: EncodingSpec[] = [
  ...alu,
  ...shifts,
  ...group3,
  ...bits,
  ...conditions,
  ...strings,
  one("MOV", 0x88, "Eb,Gb"),
  one("MOV", 0x89, "Ev,Gv"),
  one("MOV", 0x8a, "Gb,Eb"),
  one("MOV", 0x8b, "Gv,Ev"),
  one("MOV", 0xb0, "Zb,Ib", { plusR: true }),
  one("MOV", 0xb8, "Zv,Iv", { plusR: true }),
  one("MOV", 0xa0, "AL,Ob"),
  one("MOV", 0xa3, "Ov,eAX"),
  one("MOV", 0xc6, "Eb,Ib", { reg: 0 }),
  one("MOV", 0xc7, "Ev,Iz", { reg: 0 }),
  one("MOVSXD", 0x63, "Gv,Ed"),
  one("LEA", 0x8d, "Gv,M"),
  one("XCHG", 0x86, "Eb,Gb"),
  one("XCHG", 0x87, "Ev,Gv"),
  one("XCHG", 0x90, "Zv,eAX", { plusR: true }),
  one("TEST", 0x84, "Eb,Gb"),
  one("TEST", 0x85, "Ev,Gv"),
  one("TEST", 0xa9, "eAX,Iz"),
  one("INC", 0xfe, "Eb", { reg: 0 }),
  one("DEC", 0xfe, "Eb", { reg: 1 }),
  one("INC", 0xff, "Ev", { reg: 0 }),
  one("DEC", 0xff, "Ev", { reg: 1 }),
  one("IMUL", 0x69, "Gv,Ev,Iz"),
  one("IMUL", 0x6b, "Gv,Ev,Ibs"),
  two("IMUL", 0xaf, "Gv,Ev"),
  one("PUSH", 0x50, "Zv", { plusR: true }),
  one("POP", 0x58, "Zv", { plusR: true }),
  one("PUSH", 0x68, "Iz"),
  one("PUSH", 0x6a, "Ibs"),
  one("PUSH", 0xff, "Ev", { reg: 6 }),
  one("POP", 0x8f, "Ev", { reg: 0 }),
  one("PUSHF", 0x9c),
  one("POPF", 0x9d),
  one("ENTER", 0xc8, "Iw,Ib"),
  one("LEAVE", 0xc9),
  one("JMP", 0xeb, "Jb"),
  one("JMP", 0xe9, "Jz"),
  one("CALL", 0xe8, "Jz"),
  one("CALL", 0xff, "Ev", { reg: 2 }),
  one("JMP", 0xff, "Ev", { reg: 4 }),
  one("RET", 0xc3),
  one("RET", 0xc2, "Iw"),
  one("LOOPNE", 0xe0, "Jb"),
  one("LOOPE", 0xe1, "Jb"),
  one("LOOP", 0xe2, "Jb"),
  one("JRCXZ", 0xe3, "Jb"),
  one("CBW", 0x98),
  one("CWD", 0x99),
  one("XLAT", 0xd7),
  one("SAHF", 0x9e),
  one("LAHF", 0x9f),
  one("NOP", 0x90),
  one("CLC", 0xf8),
  one("STC", 0xf9),
  one("CMC", 0xf5),
  one("CLD", 0xfc),
  one("STD", 0xfd),
  one("HLT", 0xf4),
  one("INT", 0xcd, "Ib"),
  two("MOVZX", 0xb6, "Gv,Eb"),
  two("MOVZX", 0xb7, "Gv,Ew"),
  two("MOVSX", 0xbe, "Gv,Eb"),
  two("MOVSX", 0xbf, "Gv,Ew"),
  two("SHLD", 0xa4, "Ev,Gv,Ib"),
  two("SHLD", 0xa5, "Ev,Gv,CL"),
  two("SHRD", 0xac, "Ev,Gv,Ib"),
  two("SHRD", 0xad, "Ev,Gv,CL"),
  two("BSF", 0xbc, "Gv,Ev", { prefix: "np" }),
  two("BSR", 0xbd, "Gv,Ev", { prefix: "np" }),
  two("POPCNT", 0xb8, "Gv,Ev", { prefix: "f3" }),
  two("BSWAP", 0xc8, "Zv", { plusR: true }),
  two("XADD", 0xc0, "Eb,Gb"),
  two("XADD", 0xc1, "Ev,Gv"),
  two("CMPXCHG", 0xb0, "Eb,Gb"),
  two("CMPXCHG", 0xb1, "Ev,Gv"),
  two("CMPXCHG8B", 0xc7, "M", { reg: 1, rexW: 0 }),
  two("CMPXCHG16B", 0xc7, "M", { reg: 1, rexW: 1 }),
  one("DAA", 0x27, "", { invalid64: true }),
  one("AAM", 0xd4, "Ib", { invalid64: true }),
  one("INC", 0x40, "Zv", { plusR: true, invalid64: true }),
  one("PUSHA", 0x60, "", { invalid64: true }),
  two("UD2", 0x0b),
  spec("0f38", "MOVBE", 0xf0, "Gv,M", { prefix: "np" }),
  spec("0f38", "CRC32", 0xf1, "Gd,Ev", { prefix: "f2" }),
];

const sse: EncodingSpec[] = [
  two("MOVUPS", 0x10, "Vx,Wx", { prefix: "np" }),
  two("MOVAPS", 0x28, "Vx,Wx", { prefix: "np" }),
  two("MOVSD", 0x10, "Vx,Wsd", { prefix: "f2" }),
  ...["ADD", "MUL", "", "", "SUB", "MIN", "DIV", "MAX"].flatMap((name, n) =>
    name === ""
      ? []
      : (
          [
            ["PS", "np", "x"],
            ["PD", "66", "x"],
            ["SS", "f3", "d"],
            ["SD", "f2", "q"],
          ] as const
        ).map(([suffix, prefix, size]) => two(name + suffix, 0x58 + n, `Vx,W${size}`, { prefix })),
  ),
  two("SQRTPD", 0x51, "Vx,Wx", { prefix: "66" }),
  two("CVTDQ2PS", 0x5b, "Vx,Wx", { prefix: "np" }),
  two("CVTTSD2SI", 0x2c, "Gy,Wq", { prefix: "f2" }),
  two("CVTSI2SS", 0x2a, "Vx,Ey", { prefix: "f3" }),
  two("COMISS", 0x2f, "Vx,Wd", { prefix: "np" }),
  two("CMPPD", 0xc2, "Vx,Wx,Ib", { prefix: "66" }),
  two("PADDB", 0xfc, "Vx,Wx", { prefix: "66" }),
  two("PADDB", 0xfc, "Pq,Qq", { prefix: "np" }),
  two("EMMS", 0x77, "", { prefix: "np" }),
  spec("0f38", "PSHUFB", 0x00, "Vx,Wx", { prefix: "66" }),
  spec("0f3a", "PCMPESTRI", 0x61, "Vx,Wx,Ib", { prefix: "66" }),
  spec("0f3a", "ROUNDPD", 0x09, "Vx,Wx,Ib", { prefix: "66" }),
  two("LDMXCSR", 0xae, "Md", { reg: 2, prefix: "np" }),
  two("STMXCSR", 0xae, "Md", { reg: 3, prefix: "np" }),
  two("FXSAVE", 0xae, "M", { reg: 0, prefix: "np" }),
  two("FXRSTOR", 0xae, "M", { reg: 1, prefix: "np" }),
  two("MASKMOVDQU", 0xf7, "Vx,Ux", { prefix: "66" }),
];

const reg = (mnemonic: string, opcode: number, digit: number, rm?: number) =>
  one(mnemonic, opcode, "", { reg: digit, modOnly: "reg", ...(rm !== undefined && { rm }) });
const x87: EncodingSpec[] = [
  ...["FADD", "FMUL", "FCOM", "FCOMP", "FSUB", "FSUBR", "FDIV", "FDIVR"].flatMap((name, n) => [
    one(name, 0xd8, "Md", { reg: n }),
    one(name, 0xdc, "Mq", { reg: n }),
    one(`FI${name.slice(1)}`, 0xde, "Mw", { reg: n }),
    reg(name, 0xd8, n),
  ]),
  one("FLD", 0xd9, "Md", { reg: 0 }),
  one("FST", 0xd9, "Md", { reg: 2 }),
  one("FLDENV", 0xd9, "M", { reg: 4 }),
  one("FLDCW", 0xd9, "Mw", { reg: 5 }),
  one("FNSTENV", 0xd9, "M", { reg: 6 }),
  one("FNSTCW", 0xd9, "Mw", { reg: 7 }),
  one("FLD", 0xdb, "Mt", { reg: 5 }),
  one("FSTP", 0xdb, "Mt", { reg: 7 }),
  one("FRSTOR", 0xdd, "M", { reg: 4 }),
  one("FNSAVE", 0xdd, "M", { reg: 6 }),
  one("FNSTSW", 0xdd, "Mw", { reg: 7 }),
  one("FBLD", 0xdf, "Mt", { reg: 4 }),
  one("FBSTP", 0xdf, "Mt", { reg: 6 }),
  one("FILD", 0xdf, "Mq", { reg: 5 }),
  one("FISTP", 0xdf, "Mq", { reg: 7 }),
  reg("FLD", 0xd9, 0),
  reg("FXCH", 0xd9, 1),
  reg("FCHS", 0xd9, 4, 0),
  reg("FXAM", 0xd9, 4, 5),
  reg("FSQRT", 0xd9, 7, 2),
  reg("FRNDINT", 0xd9, 7, 4),
  reg("FSCALE", 0xd9, 7, 5),
  reg("FXTRACT", 0xd9, 6, 4),
  reg("FPREM", 0xd9, 7, 0),
  reg("FCMOVB", 0xda, 0),
  reg("FUCOMI", 0xdb, 5),
  reg("FFREE", 0xdd, 0),
  reg("FNINIT", 0xdb, 4, 3),
  reg("FSIN", 0xd9, 7, 6),
];

export const SAMPLE_SPECS: readonly EncodingSpec[] = [...integer, ...sse, ...x87];
