/**
 * What instructions do to the flags, as far as the architecture says so.
 * @see Intel SDM volume 1, appendix A ("EFLAGS Cross-Reference"), and the pages of volume 2
 */
import { type BitEffect, Flag } from "./case.ts";
import type { EncodingSpec } from "./encoding-spec.ts";

const { CF, PF, AF, ZF, SF, OF } = Flag;
export const ARITHMETIC_FLAGS = CF | PF | AF | ZF | SF | OF;

const NONE: BitEffect = { defined: 0, undefined: 0, reads: 0 };
const effect = (defined: number, undefinedBits = 0, reads = 0): BitEffect => ({
  defined,
  undefined: undefinedBits,
  reads,
});
const all = effect(ARITHMETIC_FLAGS);
const logic = effect(ARITHMETIC_FLAGS & ~AF, AF);
const product = effect(CF | OF, SF | ZF | AF | PF);
const bitTest = effect(CF, OF | SF | AF | PF);
const bitScan = effect(ZF, CF | OF | SF | AF | PF);
const withCarry = effect(ARITHMETIC_FLAGS, 0, CF);

const BY_MNEMONIC: Readonly<Record<string, BitEffect>> = {
  ADD: all,
  SUB: all,
  CMP: all,
  NEG: all,
  CMPXCHG: all,
  XADD: all,
  ADC: withCarry,
  SBB: withCarry,
  AND: logic,
  OR: logic,
  XOR: logic,
  TEST: logic,
  INC: effect(ARITHMETIC_FLAGS & ~CF),
  DEC: effect(ARITHMETIC_FLAGS & ~CF),
  MUL: product,
  IMUL: product,
  DIV: effect(0, ARITHMETIC_FLAGS),
  IDIV: effect(0, ARITHMETIC_FLAGS),
  BT: bitTest,
  BTS: bitTest,
  BTR: bitTest,
  BTC: bitTest,
  BSF: bitScan,
  BSR: bitScan,
  LZCNT: effect(CF | ZF, OF | SF | AF | PF),
  TZCNT: effect(CF | ZF, OF | SF | AF | PF),
  POPCNT: all,
  ANDN: effect(CF | ZF | SF | OF, AF | PF),
  BEXTR: effect(CF | ZF | OF, AF | SF | PF),
  BLSI: effect(CF | ZF | SF | OF, AF | PF),
  BLSR: effect(CF | ZF | SF | OF, AF | PF),
  BLSMSK: effect(CF | ZF | SF | OF, AF | PF),
  BZHI: effect(CF | ZF | SF | OF, AF | PF),
  ADCX: effect(CF, 0, CF),
  ADOX: effect(OF, 0, OF),
  AAA: effect(AF | CF, OF | SF | ZF | PF, AF),
  AAS: effect(AF | CF, OF | SF | ZF | PF, AF),
  DAA: effect(ARITHMETIC_FLAGS & ~OF, OF, AF | CF),
  DAS: effect(ARITHMETIC_FLAGS & ~OF, OF, AF | CF),
  AAM: effect(SF | ZF | PF, OF | AF | CF),
  AAD: effect(SF | ZF | PF, OF | AF | CF),
  SALC: effect(0, 0, CF),
  INTO: effect(0, 0, OF),
  ARPL: effect(ZF),
  CLC: effect(CF),
  STC: effect(CF),
  CMC: effect(CF, 0, CF),
  SAHF: effect(SF | ZF | AF | PF | CF),
  LAHF: effect(0, 0, SF | ZF | AF | PF | CF),
  PUSHF: effect(0, 0, ARITHMETIC_FLAGS),
  POPF: all,
  COMISS: all,
  COMISD: all,
  UCOMISS: all,
  UCOMISD: all,
  PTEST: all,
  PCMPESTRI: all,
  PCMPESTRM: all,
  PCMPISTRI: all,
  PCMPISTRM: all,
  FCOMI: effect(ZF | PF | CF),
  FCOMIP: effect(ZF | PF | CF),
  FUCOMI: effect(ZF | PF | CF),
  FUCOMIP: effect(ZF | PF | CF),
  RCL: effect(0, 0, CF),
  RCR: effect(0, 0, CF),
  LOOPE: effect(0, 0, ZF),
  LOOPNE: effect(0, 0, ZF),
  LOOPZ: effect(0, 0, ZF),
  LOOPNZ: effect(0, 0, ZF),
};

const SHIFTS = new Set(["SHL", "SAL", "SHR", "SAR", "ROL", "ROR", "RCL", "RCR", "SHLD", "SHRD"]);
/** Flags that conditions 0/1, 2/3 … E/F test. */
const CONDITION_FLAGS = [OF, CF, ZF, CF | ZF, SF, PF, SF | OF, ZF | SF | OF];
const FCMOV_FLAGS = [CF, ZF, CF | ZF, PF];

/**
 * The effect of one instruction.
 * @param name   mnemonic in capitals
 * @param bits   operand size
 * @param count  shift count as encoded (not yet masked), undefined if it is in CL
 */
export function flagEffect(spec: EncodingSpec, name: string, bits: number, count: number | undefined): BitEffect {
  if (SHIFTS.has(name)) return shiftEffect(name, bits, count);
  const reads = readsByOpcode(spec);
  const own = BY_MNEMONIC[name] ?? BY_MNEMONIC[name.replace(/[BWDQ]$/, "")] ?? NONE;
  return {
    defined: spec.flags?.defined ?? own.defined,
    undefined: spec.flags?.undefined ?? own.undefined,
    reads: own.reads | reads,
  };
}

function shiftEffect(name: string, bits: number, count: number | undefined): BitEffect {
  const reads = name === "RCL" || name === "RCR" ? CF : 0;
  const masked = count === undefined ? undefined : count & (bits === 64 ? 63 : 31);
  if (masked === 0) return effect(0, 0, reads);
  const rotate = name.startsWith("R");
  let undefinedBits = rotate ? 0 : AF;
  if (masked !== 1) undefinedBits |= OF;
  const pastSize = masked === undefined ? bits < 32 : masked >= bits;
  if (pastSize && name !== "SAR" && !rotate) undefinedBits |= CF;
  // A count in CL may be zero, which defines nothing.
  const definedBits = masked === undefined ? 0 : rotate ? CF : CF | PF | ZF | SF;
  return effect(definedBits & ~undefinedBits, undefinedBits, reads);
}

function readsByOpcode(spec: EncodingSpec): number {
  const { map, opcode } = spec;
  const condition = map === "1" ? (opcode & 0xf0) === 0x70 : map === "0f" && [0x40, 0x80, 0x90].includes(opcode & 0xf0);
  if (condition) return CONDITION_FLAGS[(opcode & 0xf) >> 1];
  if (map !== "1") return 0;
  if ((opcode === 0xda || opcode === 0xdb) && spec.modOnly === "reg" && (spec.reg ?? 4) < 4)
    return FCMOV_FLAGS[spec.reg ?? 0];
  if (opcode === 0xe0 || opcode === 0xe1) return ZF;
  if (opcode === 0x9c) return ARITHMETIC_FLAGS;
  if (opcode === 0x9f) return ARITHMETIC_FLAGS & ~OF;
  return 0;
}

const C0 = 0x100;
const C1 = 0x200;
const C2 = 0x400;
const C3 = 0x4000;
const CONDITION_CODES = C0 | C1 | C2 | C3;

/** What an x87 instruction does to the condition codes of the status word: comparisons, FXAM and partial remainders define all four; the rest defines C1 at most. */
export function statusEffect(spec: EncodingSpec, name: string): BitEffect {
  const isX87 = spec.map === "1" && spec.opcode >= 0xd8 && spec.opcode <= 0xdf;
  const reads = /^F(N?STSW|N?STENV|N?SAVE|XSAVE)/.test(name) ? CONDITION_CODES : 0;
  if (/^F(XRSTOR|LDENV|RSTOR|N?INIT)/.test(name)) return { defined: CONDITION_CODES, undefined: 0, reads };
  if (!isX87) return { defined: 0, undefined: 0, reads };
  if (/^F(U?COMI|I?COMI)P?$/.test(name)) return { defined: C1, undefined: 0, reads };
  if (/^F(U?COM|ICOM|TST|XAM|PREM)/.test(name)) return { defined: CONDITION_CODES, undefined: 0, reads };
  if (/^F(FREE|NOP|N?STCW|LDCW|N?CLEX|N?STSW|N?STENV)/.test(name))
    return { defined: 0, undefined: CONDITION_CODES, reads };
  return { defined: C1, undefined: C0 | C2 | C3, reads };
}
