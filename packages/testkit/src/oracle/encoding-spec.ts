import type { OpcodeMap } from "../asm/index.ts";

/**
 * One line of an instruction table, as the generator needs it.
 *
 * Operands are in the notation of the opcode maps of the Intel manual (volume 2, appendix A): an addressing letter
 * (E G Z M R I J O S C D V W U P Q N) and a size (b w d q v z y x t …), or a fixed operand (AL, eAX, CL, DX, 1).
 * A size letter in front of nothing ("M") takes its size from the mnemonic.
 */
export interface EncodingSpec {
  /** Only the first word counts, in any case: "ADD", "add r/m, r". */
  readonly mnemonic: string;
  readonly map: OpcodeMap;
  /** For `plusR`, the opcode with the low three bits zero. */
  readonly opcode: number;
  /** Mandatory prefix; "np" is "none allowed". Left out: prefixes select nothing. */
  readonly prefix?: "np" | "66" | "f2" | "f3";
  /** Opcode extension in ModRM.reg. */
  readonly reg?: number;
  /** Fixed ModRM.rm, with mod = 3. */
  readonly rm?: number;
  readonly modrm: boolean;
  readonly modOnly?: "reg" | "mem";
  readonly plusR?: boolean;
  readonly operands: readonly string[];
  /** REX.W that this line asks for. */
  readonly rexW?: 0 | 1;
  /** Not in 64-bit mode. */
  readonly invalid64?: boolean;
  /** Only in 64-bit mode. */
  readonly only64?: boolean;
  /** RFLAGS bits that the instruction sets and that it leaves undefined; overrides the testkit's own table. */
  readonly flags?: { readonly defined: number; readonly undefined: number };
}

/** The mnemonic alone, in capitals. */
export const mnemonicOf = (spec: EncodingSpec): string => spec.mnemonic.split(/[\s,]/, 1)[0].toUpperCase();

/** The line as text, for messages: `0f b1 Ev,Gv (CMPXCHG)`. */
export function specText(spec: EncodingSpec): string {
  const map = spec.map === "1" ? "" : `${spec.map.replace(/^0f(..)/, "0f $1")} `;
  const digit = spec.reg === undefined ? "" : ` /${spec.reg}${spec.rm === undefined ? "" : `.${spec.rm}`}`;
  const prefix = spec.prefix === undefined ? "" : `${spec.prefix} `;
  const opcode = spec.opcode.toString(16).padStart(2, "0");
  return `${prefix}${map}${opcode}${spec.plusR ? "+r" : ""}${digit} ${spec.operands.join(",")} (${mnemonicOf(spec)})`;
}
