import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type CaseBits, CODE_BYTES, type TestCase, Vector } from "./case.ts";
import { decodeBatch, decodeResults, encodeBatch, encodeResults } from "./codec.ts";
import { excludedSpecs, Generator } from "./generate.ts";
import { HostCpu } from "./host.ts";
import { Prng } from "./prng.ts";
import { SAMPLE_SPECS } from "./sample-specs.ts";

const draw = (seed: number, count: number, bits: CaseBits = 64): TestCase[] => {
  const generator = new Generator({ seed, specs: SAMPLE_SPECS, bits });
  return Array.from({ length: count }, () => generator.next());
};

describe("the generator", () => {
  it("draws the same cases for the same seed", () => {
    assert.deepEqual(draw(7, 200), draw(7, 200));
    assert.notDeepEqual(draw(7, 1), draw(8, 1));
  });

  it("draws every line of the table that is not excluded", () => {
    const excluded = new Set(excludedSpecs(SAMPLE_SPECS).map((x) => x.spec));
    assert.deepEqual(
      [...excluded].map((spec) => spec.mnemonic),
      ["DAA", "AAM", "INC", "PUSHA", "FSIN"],
    );
    const texts = new Set(draw(1, 20_000).flatMap((c) => c.instructions?.map((x) => x.text) ?? []));
    const missing = SAMPLE_SPECS.length - excluded.size - texts.size;
    // Lines that differ in nothing that their text shows count once.
    assert.ok(missing <= 2, `${missing} lines never drawn`);
  });

  it("lets nothing follow what stores fields of the processor's own, also where nothing else is drawn", () => {
    const stores = (text: string): boolean => /FXSAVE/.test(text);
    const early = draw(5, 5000).filter((c) => c.instructions?.slice(0, -1).some((x) => stores(x.text)));
    assert.deepEqual(early, []);
    const only = new Generator({ seed: 6, specs: SAMPLE_SPECS.filter((s) => s.mnemonic === "FXSAVE") });
    assert.ok(stores(only.next().instructions?.at(-1)?.text ?? ""));
  });

  it("keeps code inside its region", () => {
    for (const c of draw(2, 2000)) assert.ok(c.code.length + (c.codeOffset ?? 0) <= CODE_BYTES);
  });

  it("gives cases of one encoding on request", () => {
    const generator = new Generator({ seed: 3, specs: SAMPLE_SPECS });
    const cases = [...generator.each(SAMPLE_SPECS[0], 50)];
    assert.equal(cases.length, 50);
    for (const c of cases)
      assert.deepEqual(
        c.instructions?.map((x) => x.text),
        ["00 Eb,Gb (ADD)"],
      );
  });

  it("refuses a table of which nothing can be drawn", () => {
    const specs = SAMPLE_SPECS.filter((spec) => spec.mnemonic === "FSIN");
    assert.throws(() => new Generator({ seed: 1, specs }), /no encoding/);
  });
});

describe("the codec", () => {
  it("brings cases back as they were", () => {
    const cases = [...draw(4, 300), ...draw(4, 300, 32)].map(({ ignore: _, instructions: __, ...rest }) => rest);
    const back = decodeBatch(encodeBatch(cases));
    const plain = back.map(({ memory, ...c }) => ({ ...c, ...(memory?.length && { memory }) }));
    assert.deepEqual(
      plain.map((c) => c.gprs),
      cases.map((c) => c.gprs),
    );
    assert.deepEqual(
      plain.map((c) => [c.bits, c.code, c.codeOffset, c.memory, c.rflags]),
      cases.map((c) => [c.bits, c.code, c.codeOffset, c.memory, c.rflags]),
    );
  });
});

describe("generated cases on the host CPU", {
  skip: HostCpu.available() ? false : "needs an x86-64 Linux host",
}, () => {
  const cases = draw(5, 5000);
  const results = HostCpu.available() ? new HostCpu().run(cases) : [];

  it("mostly run to their end, and the rest meets every kind of exception", () => {
    const count = (v: number) => results.filter((r) => r.kind === "trap" && r.vector === v).length;
    assert.ok(count(Vector.BP) > results.length * 0.75, `only ${count(Vector.BP)} of ${results.length} complete`);
    for (const v of [Vector.DE, Vector.DB, Vector.UD, Vector.GP, Vector.PF, Vector.XM])
      assert.ok(count(v) > 0, `no case ended in vector ${v}`);
  });

  it("mostly run to their end in compatibility mode too", { skip: HostCpu.no32() ?? false }, () => {
    const compatible = draw(6, 3000, 32);
    const complete = new HostCpu().run(compatible).filter((r) => r.vector === Vector.BP).length;
    assert.ok(complete > compatible.length * 0.7, `only ${complete} of ${compatible.length} complete`);
    for (const c of compatible) assert.ok(c.gprs.every((value) => value < 1n << 32n));
  });

  it("give the same results again", () => {
    assert.deepEqual(new HostCpu().run(cases.slice(0, 2000)), results.slice(0, 2000));
  });

  it("survive encoding of their results", () => {
    assert.deepEqual(decodeResults(encodeResults(cases, results), cases), results);
  });
});

describe("the random numbers", () => {
  it("are those of xoshiro128**", () => {
    // Computed independently from the published algorithm, seeded by SplitMix32 of 1.
    const r = new Prng(1);
    const first = [r.u32(), r.u32(), r.u32()];
    assert.deepEqual(first, reference(1, 3));
  });
  it("stay in their range", () => {
    const r = new Prng(9);
    for (let i = 0; i < 1000; i++) {
      const n = r.between(-3, 3);
      assert.ok(n >= -3 && n <= 3);
    }
  });
});

/** xoshiro128** once more, in BigInt and straight from the paper. */
function reference(seed: number, count: number): number[] {
  const m = 0xffff_ffffn;
  const rotl = (x: bigint, k: bigint): bigint => ((x << k) | (x >> (32n - k))) & m;
  let x = BigInt(seed);
  const s: bigint[] = [];
  for (let i = 0; i < 4; i++) {
    x = (x + 0x9e3779b9n) & m;
    let z = ((x ^ (x >> 16n)) * 0x85ebca6bn) & m;
    z = ((z ^ (z >> 13n)) * 0xc2b2ae35n) & m;
    s.push(z ^ (z >> 16n));
  }
  return Array.from({ length: count }, () => {
    const result = (rotl((s[1] * 5n) & m, 7n) * 9n) & m;
    const t = (s[1] << 9n) & m;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 11n);
    return Number(result);
  });
}
