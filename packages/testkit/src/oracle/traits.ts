/** What the generator must know of an instruction beyond its encoding. Keyed by opcode, so any spelling of mnemonics works. */
import type { CaseBits } from "./case.ts";
import { type EncodingSpec, mnemonicOf } from "./encoding-spec.ts";

export interface Traits {
  /** Why the instruction is never drawn, or undefined. */
  readonly excluded: string | undefined;
  /** Always #GP (or #UD) at CPL 3: drawn seldom and last. */
  readonly privileged: boolean;
  readonly string: boolean;
  /** Moves RSP. */
  readonly stack: boolean;
  /** Near branch: relative, indirect or return. 0x66 truncates RIP on some CPUs and not on others. */
  readonly branch: "relative" | "indirect" | "return" | undefined;
  readonly lockable: boolean;
  /** Uses [RBX] (XLAT) or [RDI] (MASKMOV) without naming it. */
  readonly implicitPointer: boolean;
  readonly x87: boolean;
  /** Touches x87, MMX or SSE state. */
  readonly fp: boolean;
  readonly divide: boolean;
  readonly doubleShift: boolean;
  /** Addresses memory beyond its operand by a register bit offset. */
  readonly bitString: boolean;
}

/** One line of the table with what was found out about it once. */
export interface Drawable {
  readonly spec: EncodingSpec;
  readonly name: string;
  readonly text: string;
  readonly traits: Traits;
}

const STRING_OPCODES = new Set([0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf]);
const STACK_OPCODES = new Set([0x60, 0x61, 0x8f, 0x9c, 0x9d, 0xc8, 0xc9, 0x68, 0x6a]);
const LOCKABLE = new Set(
  "ADD ADC AND BTC BTR BTS CMPXCHG CMPXCHG8B CMPXCHG16B DEC INC NEG NOT OR SBB SUB XADD XCHG XOR".split(" "),
);
const APPROXIMATE_X87 = new Set([0xf0, 0xf1, 0xf2, 0xf3, 0xf9, 0xfb, 0xfe, 0xff]);

export function traitsOf(spec: EncodingSpec, bits: CaseBits): Traits {
  const { map, opcode, reg } = spec;
  const one = map === "1";
  const name = mnemonicOf(spec);
  const x87 = one && opcode >= 0xd8 && opcode <= 0xdf;
  return {
    excluded: exclusion(spec, bits),
    privileged: isPrivileged(spec),
    string: one && STRING_OPCODES.has(opcode),
    stack:
      one &&
      ((opcode >= 0x50 && opcode <= 0x5f) ||
        STACK_OPCODES.has(opcode) ||
        [0xc2, 0xc3, 0xe8].includes(opcode) ||
        (opcode === 0xff && (reg === 2 || reg === 6))),
    branch: branchKind(spec),
    lockable: LOCKABLE.has(name),
    implicitPointer: (one && opcode === 0xd7) || (map === "0f" && opcode === 0xf7),
    x87,
    fp:
      x87 ||
      spec.operands.some((o) => /^[VWUPQN]/.test(o)) ||
      (map === "0f" && opcode === 0xae) ||
      (map === "0f" && opcode === 0x77),
    divide: one && (opcode === 0xf6 || opcode === 0xf7) && (reg === 6 || reg === 7),
    doubleShift: map === "0f" && [0xa4, 0xa5, 0xac, 0xad].includes(opcode),
    bitString: map === "0f" && [0xa3, 0xab, 0xb3, 0xbb].includes(opcode),
  };
}

function branchKind({ map, opcode, reg }: EncodingSpec): Traits["branch"] {
  if (map === "0f") return (opcode & 0xf0) === 0x80 ? "relative" : undefined;
  if (map !== "1") return undefined;
  if ((opcode & 0xf0) === 0x70 || (opcode >= 0xe0 && opcode <= 0xe3) || [0xe8, 0xe9, 0xeb].includes(opcode))
    return "relative";
  if (opcode === 0xff && (reg === 2 || reg === 4)) return "indirect";
  return opcode === 0xc2 || opcode === 0xc3 ? "return" : undefined;
}

function isPrivileged({ map, opcode }: EncodingSpec): boolean {
  if (map === "1")
    return (
      [0xf4, 0xfa, 0xfb, 0x6c, 0x6d, 0x6e, 0x6f, 0xcd].includes(opcode) ||
      (opcode >= 0xe4 && opcode <= 0xe7) ||
      (opcode >= 0xec && opcode <= 0xef)
    );
  if (map !== "0f") return false;
  return (
    [0x00, 0x01, 0x06, 0x07, 0x08, 0x09, 0x0b, 0x30, 0x32, 0xff, 0xb9].includes(opcode) ||
    (opcode >= 0x20 && opcode <= 0x23)
  );
}

/** Instructions whose result depends on the machine, the kernel or the vendor, or that leave the sandbox. */
function exclusion(spec: EncodingSpec, bits: CaseBits): string | undefined {
  const { map, opcode, reg, modOnly, prefix } = spec;
  if (bits === 64 && spec.invalid64) return "not in 64-bit mode";
  if (bits === 32 && (spec.only64 || spec.rexW === 1)) return "only in 64-bit mode";
  if (spec.operands.some((o) => /^S[a-z]*$/.test(o))) return "segment registers hold the host's selectors";
  if (map === "1") return exclusionOneByte(spec, bits);
  if (map !== "0f") return undefined;
  if (opcode === 0x05 || opcode === 0x34 || opcode === 0x35) return "system call";
  if ([0xa2, 0x31, 0x33].includes(opcode)) return "reads the machine's identity or clock";
  if ([0xa0, 0xa1, 0xa8, 0xa9, 0xb2, 0xb4, 0xb5, 0x02, 0x03].includes(opcode))
    return "segment registers hold the host's selectors";
  if (opcode === 0x00 && reg !== 2 && reg !== 3) return "the kernel emulates it or the descriptor tables decide";
  if (
    opcode === 0x01 &&
    (modOnly === "reg" ? spec.rm !== 0 || reg !== 7 : reg === undefined || reg === 0 || reg === 1 || reg === 4)
  ) {
    return "the kernel emulates it or the hypervisor decides";
  }
  if ((opcode === 0x52 || opcode === 0x53) && prefix !== "66" && prefix !== "f2")
    return "approximation differs by vendor";
  if (opcode === 0xae && modOnly !== "reg" && (reg === 4 || reg === 5 || reg === 6))
    return "XSAVE layout differs by machine";
  if (opcode === 0xae && prefix === "f3") return "FSGSBASE depends on the kernel";
  if (opcode === 0xc7 && reg !== 1) return "random numbers, or XSAVE";
  if (opcode === 0x78 || opcode === 0x79 || opcode === 0x37) return "differs by vendor";
  return undefined;
}

function exclusionOneByte(spec: EncodingSpec, bits: CaseBits): string | undefined {
  const { opcode, reg, rm, modOnly } = spec;
  if (opcode === 0x63 && bits === 32 && mnemonicOf(spec) === "MOVSXD") return "only in 64-bit mode";
  if ([0x8c, 0x8e, 0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f].includes(opcode))
    return "segment registers hold the host's selectors";
  if ([0x9a, 0xea, 0xca, 0xcb, 0xcf].includes(opcode) || (opcode === 0xff && (reg === 3 || reg === 5)))
    return "far transfer";
  if (opcode === 0xc4 || opcode === 0xc5) return "VEX, or a segment register";
  if (opcode === 0x62 && bits === 64) return "EVEX";
  if (opcode === 0xc6 && reg === 7) return "TSX";
  if (opcode === 0xc7 && reg === 7) return "TSX";
  if (
    opcode === 0xd9 &&
    modOnly === "reg" &&
    reg !== undefined &&
    rm !== undefined &&
    APPROXIMATE_X87.has(0xc0 | (reg << 3) | rm)
  ) {
    return "transcendental results differ by vendor";
  }
  return undefined;
}

/**
 * Bytes of a memory operand, by its size letter or, where there is none, by what the instruction is.
 * @param operandBytes  2, 4 or 8
 */
export function memoryBytes(spec: EncodingSpec, operand: string, operandBytes: number, rexW: boolean): number {
  const size = operand.slice(1);
  const bySize: Readonly<Record<string, number>> = {
    b: 1,
    w: 2,
    d: 4,
    q: 8,
    v: operandBytes,
    z: Math.min(operandBytes, 4),
    y: rexW ? 8 : 4,
    x: 16,
    dq: 16,
    ps: 16,
    pd: 16,
    ss: 4,
    sd: 8,
    si: 4,
    pi: 8,
    t: 10,
    bs: 1,
    s: 10,
    a: 8,
    p: 10,
    o: 16,
  };
  if (size in bySize) return bySize[size];
  const name = mnemonicOf(spec);
  if (name.startsWith("FX")) return 512;
  if (/^F(N?SAVE|RSTOR)/.test(name)) return 108;
  if (/^F(N?STENV|LDENV)/.test(name)) return 28;
  if (/^F(N?STCW|N?STSW|LDCW)/.test(name)) return 2;
  if (name.startsWith("CMPXCHG")) return rexW ? 16 : 8;
  if (/^(LD|ST)MXCSR/.test(name)) return 4;
  if (/^(LGDT|LIDT|SGDT|SIDT)/.test(name)) return 10;
  if (name === "LDDQU" || /^MOVNT(DQ|PS|PD)/.test(name)) return 16;
  if (/^MOV[LH]P[SD]|^MOVNTQ/.test(name)) return 8;
  return operandBytes;
}

/** Alignment in bytes without which the instruction faults; 1 where there is none. */
export function requiredAlignment(spec: EncodingSpec, bytes: number): number {
  const name = mnemonicOf(spec);
  if (name.startsWith("FX")) return 16;
  if (name === "CMPXCHG16B" || (name.startsWith("CMPXCHG8B") && bytes === 16)) return 16;
  const sse = spec.operands.some((o) => /^[VW]/.test(o));
  return sse && bytes === 16 && !/^MOVU|^MOVDQU|^LDDQU|^PCMP[EI]STR/.test(name) ? 16 : 1;
}
