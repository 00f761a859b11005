import type { CaseBuilder } from "./case-builder.ts";
import type { Prng } from "./prng.ts";
import type { Drawable } from "./traits.ts";
import {
  controlWord,
  float32,
  float64,
  float80,
  fxState,
  interesting64,
  mxcsr,
  packedDecimal,
  vector128,
} from "./values.ts";

/** Puts meaningful contents where an operand lies: floats for floating point, valid images for loads of state. */
export function fillOperand(r: Prng, b: CaseBuilder, d: Drawable, address: number, bytes: number): void {
  const { name, traits } = d;
  if (/^FX?RSTOR|^FLDENV|^FLDCW|^LDMXCSR|^FXRSTOR/.test(name)) {
    b.patch(address, stateImage(r, name, bytes));
    return;
  }
  if (!r.chance(60)) return;
  if (traits.x87) b.patch(address, x87Operand(r, name, bytes));
  else if (traits.fp) b.patch(address, sseOperand(r, d, bytes));
  else if (name.startsWith("CMPXCHG") && bytes >= 8) b.patch(address, expected(b, bytes));
  else if (bytes <= 8) b.patch(address, bytesOf(interesting64(r), bytes));
}

function bytesOf(value: bigint, bytes: number): Uint8Array {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, value, true);
  return out.subarray(0, bytes);
}

function stateImage(r: Prng, name: string, bytes: number): Uint8Array {
  const out = new Uint8Array(bytes);
  const view = new DataView(out.buffer);
  if (name === "LDMXCSR") view.setUint32(0, r.chance(97) ? mxcsr(r) : 0x8000_0000, true);
  else if (name === "FLDCW") view.setUint16(0, controlWord(r), true);
  else if (bytes === 512) {
    out.set(fxState(r));
    if (r.chance(3)) view.setUint32(24, 0x100_0000, true);
  } else {
    const fx = new DataView(fxState(r).buffer);
    view.setUint16(0, fx.getUint16(0, true), true);
    view.setUint16(4, fx.getUint16(2, true), true);
    view.setUint16(8, r.chance(30) ? 0xffff : r.below(0x10000), true);
    for (let i = 0; bytes >= 108 && i < 8; i++) out.set(float80(r), 28 + 10 * i);
  }
  return out;
}

function x87Operand(r: Prng, name: string, bytes: number): Uint8Array {
  if (name.startsWith("FB")) return packedDecimal(r);
  if (bytes === 10) return float80(r);
  if (name.startsWith("FI") || bytes === 2) return bytesOf(interesting64(r), Math.min(bytes, 8));
  if (bytes === 4) return bytesOf(BigInt(float32(r)), 4);
  return bytesOf(float64(r), Math.min(bytes, 8));
}

function sseOperand(r: Prng, d: Drawable, bytes: number): Uint8Array {
  if (bytes >= 16) return vector128(r);
  if (bytes === 4) return bytesOf(d.spec.operands.some((o) => /^E/.test(o)) ? interesting64(r) : BigInt(float32(r)), 4);
  if (bytes === 8) return r.chance(50) ? bytesOf(float64(r), 8) : vector128(r).slice(0, 8);
  return bytesOf(interesting64(r), bytes);
}

/** What CMPXCHG8B or CMPXCHG16B compare with if nothing changed RDX:RAX before. */
function expected(b: CaseBuilder, bytes: number): Uint8Array {
  const half = bytes / 2;
  const out = new Uint8Array(bytes);
  out.set(bytesOf(b.gprs[0], half));
  out.set(bytesOf(b.gprs[2], half), half);
  return out;
}

type Ranges = readonly (readonly [from: number, to: number])[];

/**
 * Byte ranges of a stored image that hold what the architecture leaves open: instruction and operand pointers, last
 * opcode, MXCSR_MASK, reserved areas. Undefined for other instructions.
 */
export function implementationDefined(name: string): ((operand16: boolean) => Ranges) | undefined {
  if (name.startsWith("FXSAVE"))
    return () => [
      [6, 24],
      [28, 32],
      [416, 512],
    ];
  if (/^FN?(SAVE|STENV)/.test(name)) return (operand16) => (operand16 ? [[6, 14]] : [[12, 28]]);
  return undefined;
}
