import { cpus } from "node:os";
import { join } from "node:path";
import { type EncodingSpec, Generator, Prng, type TestCase } from "@xenoserver/testkit";
import { encodingSpecs } from "./specs.ts";

/** Where recorded vectors and saved failures are. */
export const VECTORS = join(import.meta.dirname, "../../vectors/instructions.gz");
export const REGRESSIONS = join(import.meta.dirname, "../../vectors/regressions");

/**
 * Encodings that a host can judge. What the manuals leave open about x87 (C1 after some instructions, how far a partial
 * remainder goes) is done as AMD's processors do it, so that another vendor's is no judge of it.
 */
export function judgedSpecs(): EncodingSpec[] {
  const specs = encodingSpecs();
  if (/AMD/.test(cpus()[0]?.model ?? "")) return specs;
  return specs.filter((s) => !(s.map === "1" && s.opcode >= 0xd8 && s.opcode <= 0xdf));
}

/** The same cases for the same table: `each` of every encoding alone, then so many sequences of up to four. */
export function fixedCases(
  specs: readonly EncodingSpec[],
  seed: number,
  counts: { readonly each: number; readonly sequences: number },
): TestCase[] {
  const generator = new Generator({ seed, specs, maxInstructions: 4 });
  const cases = specs.flatMap((spec) => [...generator.each(spec, counts.each)]);
  for (let n = 0; n < counts.sequences; n++) cases.push(generator.next());
  const r = new Prng(seed);
  for (const c of cases) if (c.fx && r.chance(25)) makeOrdinary(c.fx, r);
  return cases;
}

/**
 * Gives an FXSAVE image ordinary numbers in the XMM registers, all SSE exceptions masked and PE set: the state in which the
 * host's own arithmetic stands in, which generated values seldom allow.
 */
export function makeOrdinary(fx: Uint8Array, r: Prng): void {
  const view = new DataView(fx.buffer, fx.byteOffset);
  const number = (spread: number) => (r.below(2 ** 31) - 2 ** 30) * 2 ** (r.below(2 * spread) - spread);
  view.setUint32(24, 0x1fa0, true);
  for (let at = 160; at < 416; at += 16) {
    const form = r.below(4);
    for (let k = 0; k < 16; k += 4) {
      if (form === 0) view.setFloat32(at + k, number(20), true);
      else if (form === 1) view.setFloat32(at + k, Math.trunc(number(31) % 100), true);
      else if (k % 8 === 0) view.setFloat64(at + k, form === 2 ? number(60) : Math.trunc(number(8)), true);
    }
  }
}
