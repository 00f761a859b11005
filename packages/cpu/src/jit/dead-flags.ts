import type { Decoded } from "../decode/decoded.ts";

/** Set all six flags and read none. */
const SETS_ALL = /^(ADD|SUB|CMP|AND|OR|XOR|TEST|NEG|MUL|IMUL)$/;
/** Leave flags alone, or set some of them or sometimes, and read none but to keep them. */
const KEEPS = /^(MOV|MOVZX|MOVSX|MOVSXD|LEA|NOT|BSWAP|CBW|CWD|SHL|SHR|SAR|ROL|ROR|SHLD|SHRD|INC|DEC)$/;

/** Neither faults nor leaves: between it and the next instruction nobody sees the flags. */
const isSilent = (d: Decoded): boolean =>
  (!d.memory || d.def.name === "LEA") &&
  d.operands.every(({ kind }) => kind === "gpr" || kind === "imm" || kind === "mem");

/**
 * Which instructions of a block set flags that nobody sees: another sets them all before anything reads them, faults or leaves.
 * A guess to the safe side: true is certain.
 */
export function deadFlags(instructions: readonly { readonly d: Decoded }[]): boolean[] {
  const dead: boolean[] = [];
  let later = false;
  for (let k = instructions.length - 1; k >= 0; k--) {
    const { d } = instructions[k];
    const setsAll = SETS_ALL.test(d.def.name);
    const isKnown = setsAll || KEEPS.test(d.def.name);
    // What repeats itself looks at its own flags.
    dead[k] = later && isKnown;
    later = isSilent(d) && isKnown && (setsAll || later);
  }
  return dead;
}
