/**
 * The notation of the instruction table.
 *
 * An encoding is one line: `[np|66|f2|f3] [0f|0f38|0f3a] opcode[+r] [/digit[.rm]] [operands] [options]`, e.g.
 * `"0f b6 Gv,Eb"`, `"80 /0 Eb,Ib"`, `"50+r Zv d64"`, `"f3 0f 10 Vx,Wd"`, `"d9 /4.0"`.
 *
 * Operands are in the notation of the Intel manual's opcode map: E = register or memory by ModRM.rm, G = register by
 * ModRM.reg, Z = register by the opcode's low bits, M = memory only, R = register only by ModRM.rm, I = immediate,
 * J = branch offset, O = absolute address, A = far pointer, S = segment register, C/D = control/debug register, V/W/U = XMM by reg / rm / rm
 * register only, P/Q/N = the same for MMX; then the size: b w d q, v = operand size, z = operand size but at most 32 bits,
 * y = 32 or 64 bits, x = 128 bits, t = 80 bits; bs = byte sign-extended to the operand size.
 * `AL AX eAX CL DX 1 AH` stand for themselves; STi is the x87 register ST(ModRM.rm).
 *
 * Options: `mem`/`reg` only that form of ModRM; `i64` invalid in 64-bit mode; `o64` only in 64-bit mode; `d64` 64-bit operand size
 * by default there; `f64` forced; `w0`/`w1` by REX.W; `norep` F2/F3 do not matter; `a` the address size is part of the meaning.
 */
export interface Encoding {
  /** Number of the encoding, in order of definition. */
  readonly id: number;
  readonly text: string;
  /** Mandatory prefix: 0 none demanded, 1 none allowed ("np"), 0x66, 0xf2, 0xf3. */
  readonly prefix: number;
  /** 0 one-byte map, 1 0F, 2 0F38, 3 0F3A. */
  readonly map: number;
  readonly opcode: number;
  /** The register is in the opcode's low three bits. */
  readonly plusR: boolean;
  /** /digit, or −1. */
  readonly digit: number;
  /** Exact ModRM.rm with mod = 3, or −1. */
  readonly rm: number;
  readonly modrm: boolean;
  readonly operands: readonly OperandSpec[];
  readonly options: ReadonlySet<string>;
}

export interface OperandSpec {
  readonly text: string;
  /** How it is addressed: one of E G Z M R I J O S C D V W U P Q N, "STi", or "fixed". */
  readonly kind: string;
  /** Size letter: b w d q v z y x t o bs, or "" where there is none. */
  readonly size: string;
  /** Register number of a fixed operand; constant for "1". */
  readonly fixed: number;
}

const MODRM_KINDS = "EGMRSCDVWUPQN";
const FIXED: Readonly<Record<string, readonly [size: string, register: number]>> = {
  AL: ["b", 0],
  AH: ["b", 4],
  AX: ["w", 0],
  eAX: ["v", 0],
  CL: ["b", 1],
  DX: ["w", 2],
};

function parseOperand(text: string): OperandSpec {
  const fixed = FIXED[text];
  if (fixed) return { text, kind: "fixed", size: fixed[0], fixed: fixed[1] };
  if (text === "STi") return { text, kind: text, size: "t", fixed: 0 };
  if (text === "1") return { text, kind: "one", size: "", fixed: 1 };
  const kind = text[0];
  if (!`${MODRM_KINDS}ZIJOA`.includes(kind)) throw new Error(`operand "${text}" is not known`);
  return { text, kind, size: text.slice(1), fixed: 0 };
}

let encodings = 0;
const MAPS: Readonly<Record<string, number>> = { "0f": 1, "0f38": 2, "0f3a": 3 };

/** @throws Error naming the text if it does not follow the notation. */
export function parseEncoding(text: string): Encoding {
  const words = text.split(/\s+/);
  let at = 0;
  let prefix = 0;
  if (words.length > 1 && /^(np|66|f2|f3)$/.test(words[0]) && /^[0-9a-f]{2}/.test(words[1])) {
    prefix = words[at++] === "np" ? 1 : Number.parseInt(words[0], 16);
  }
  let map = 0;
  if (words[at] in MAPS) map = MAPS[words[at++]];
  const opcodeText = /^([0-9a-f]{2})(\+r)?$/.exec(words[at++] ?? "");
  if (!opcodeText) throw new Error(`encoding "${text}" has no opcode`);
  let digit = -1;
  let rm = -1;
  const digitText = /^\/([0-7])(?:\.([0-7]))?$/.exec(words[at] ?? "");
  if (digitText) {
    at++;
    digit = Number(digitText[1]);
    if (digitText[2] !== undefined) rm = Number(digitText[2]);
  }
  let operands: readonly OperandSpec[] = [];
  if (/^([A-Z1]|eAX)/.test(words[at] ?? "")) operands = words[at++].split(",").map(parseOperand);
  const options = new Set(words.slice(at));
  const modrm =
    digit >= 0 || operands.some((o) => MODRM_KINDS.includes(o.kind)) || options.has("mem") || options.has("reg");
  if (operands.some((o) => "MR".includes(o.kind) || "UN".includes(o.kind))) {
    options.add(operands.some((o) => o.kind === "M") ? "mem" : "reg");
  }
  if (rm >= 0 || operands.some((o) => o.kind === "STi")) options.add("reg");
  return {
    id: encodings++,
    text,
    prefix,
    map,
    opcode: Number.parseInt(opcodeText[1], 16),
    plusR: !!opcodeText[2],
    digit,
    rm,
    modrm,
    operands,
    options,
  };
}
