import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { defaultFx, makeCase, Prng } from "@xenoserver/testkit";
import { CaseEngine } from "../../testing/case-engine.ts";

/** RCPPS and RSQRTPS: vendors differ in the bits, so only the documented bound is held, and what is exact. */

const BOUND = 1.5 * 2 ** -12;
const OPCODE = { rcp: 0x53, rsqrt: 0x52 } as const;
const engine = new CaseEngine();

/** XMM0 = operation(XMM1), on 32-bit words. */
function run(operation: keyof typeof OPCODE, words: readonly number[]): number[] {
  const fx = defaultFx();
  const view = new DataView(fx.buffer);
  words.forEach((w, k) => view.setUint32(176 + 4 * k, w, true));
  const [result] = engine.run([makeCase({ code: Uint8Array.of(0x0f, OPCODE[operation], 0xc1), fx })]);
  const out = new DataView(result.fx.buffer, result.fx.byteOffset);
  assert.equal(out.getUint32(24, true), 0x1f80, "no exception is flagged");
  return words.map((_, k) => out.getUint32(160 + 4 * k, true));
}
const float = (bits: number): number => new Float32Array(Uint32Array.of(bits).buffer)[0];

describe("approximate reciprocals", () => {
  for (const [operation, exact] of [
    ["rcp", (x: number) => 1 / x],
    ["rsqrt", (x: number) => 1 / Math.sqrt(x)],
  ] as const) {
    it(`${operation} is within 1.5 · 2^−12`, () => {
      const r = new Prng(1);
      for (let n = 0; n < 200; n++) {
        // Exponents whose reciprocals are normal.
        const words = [0, 0, 0, 0].map(() => (r.between(2, 252) << 23) | r.below(1 << 23));
        run(operation, words).forEach((bits, k) => {
          const truth = exact(float(words[k]));
          assert.ok(
            Math.abs(float(bits) - truth) <= BOUND * truth,
            `${operation}(${float(words[k])}) = ${float(bits)}`,
          );
        });
      }
    });
  }
  it("has exact limits", () => {
    // Zero, a denormal, infinity, a signaling NaN
    const words = [0x80000000, 0x00000001, 0x7f800000, 0x7f800001];
    assert.deepEqual(run("rcp", words), [0xff800000, 0x7f800000, 0, 0x7fc00001]);
    assert.deepEqual(run("rsqrt", words), [0xff800000, 0x7f800000, 0, 0x7fc00001]);
    assert.deepEqual(run("rcp", [0x7f000000, 0xff7fffff]), [0, 0x80000000], "tiny results are zero");
    assert.deepEqual(run("rsqrt", [0xbf800000]), [0xffc00000]);
  });
});
