import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { assemble, eax, ecx, qword, rax } from "../asm/index.ts";
import { makeCase, SCRATCH_BASE, type TestCase, type TestEngine, type TestResult } from "./case.ts";
import { compareResults } from "./compare.ts";
import { fuzz } from "./fuzz.ts";
import { Generator } from "./generate.ts";
import { HostCpu } from "./host.ts";
import { SAMPLE_SPECS } from "./sample-specs.ts";
import { shrink } from "./shrink.ts";
import { loadRegressions, loadVectors, recordVectors, saveRegression } from "./vectors.ts";

const skip = HostCpu.available() ? false : "needs an x86-64 Linux host";

/** The host CPU with a fault: cases that contain the instruction and end well come out with RAX changed. */
class Faulty implements TestEngine {
  readonly #host = new HostCpu();
  readonly #contains: string;
  constructor(contains: string) {
    this.#contains = contains;
  }
  run(cases: readonly TestCase[]): TestResult[] {
    return this.#host.run(cases).map((r, i) => {
      if (r.vector !== 3 || !cases[i].instructions?.some((x) => x.text.includes(this.#contains))) return r;
      const gprs = r.gprs.slice();
      gprs[0] ^= 0x10n;
      return { ...r, gprs };
    });
  }
}

function inTemporaryFolder(test: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "oracle-"));
  try {
    test(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("fuzz", { skip }, () => {
  it("finds nothing when the host is compared with itself", () => {
    const report = fuzz({ engine: new HostCpu(), specs: SAMPLE_SPECS, seed: 1, cases: 4000 });
    assert.equal(report.cases, 4000);
    assert.deepEqual(
      report.failures.map((f) => f.text),
      [],
    );
  });

  it("finds a wrong instruction, shrinks the sequence to it and saves it", () => {
    inTemporaryFolder((folder) => {
      const engine = new Faulty("(XLAT)");
      const report = fuzz({ engine, specs: SAMPLE_SPECS, seed: 2, cases: 4000, folder, batchCases: 4000 });
      assert.equal(report.failures.length, 1);
      const [{ testCase, difference, text }] = report.failures;
      assert.deepEqual(testCase.instructions, [{ at: 0, text: "d7  (XLAT)" }]);
      assert.equal(difference.what, "rax");
      assert.match(text, /rax: expected 0x.*XLAT/s);
      const [saved] = loadRegressions(folder);
      assert.deepEqual(saved.testCase, testCase);
      assert.equal(compareResults(saved.testCase, saved.expected, new HostCpu().run([saved.testCase])[0]), undefined);
      assert.notEqual(compareResults(saved.testCase, saved.expected, engine.run([saved.testCase])[0]), undefined);
    });
  });

  it("asks for a bound", () => {
    assert.throws(() => fuzz({ engine: new HostCpu(), specs: SAMPLE_SPECS, seed: 1 }), /minutes/);
  });
});

describe("recorded vectors", { skip }, () => {
  it("come back with their results", () => {
    inTemporaryFolder((folder) => {
      const generator = new Generator({ seed: 11, specs: SAMPLE_SPECS });
      const cases = Array.from({ length: 500 }, () => generator.next());
      const results = new HostCpu().run(cases);
      const path = join(folder, "vectors.gz");
      recordVectors(path, cases, results);
      const vectors = loadVectors(path);
      assert.deepEqual(
        vectors.map((v) => v.expected),
        results,
      );
      const again = new HostCpu().run(vectors.map((v) => v.testCase));
      vectors.forEach((v, i) => {
        assert.equal(compareResults(v.testCase, v.expected, again[i]), undefined);
      });
    });
  });
});

describe("compareResults", { skip }, () => {
  const run = (c: TestCase): TestResult => new HostCpu().run([c])[0];
  const add = makeCase({
    code: assemble(64, (a) => a.add(eax, ecx).mov(qword(SCRATCH_BASE + 0x100), rax)),
    gprs: { 0: 1n, 1: 2n },
  });

  it("names the first thing that differs", () => {
    const right = run(add);
    const gprs = right.gprs.slice();
    gprs[9] = 5n;
    assert.deepEqual(compareResults(add, right, { ...right, gprs }), { what: "r9", expected: "0x0", actual: "0x5" });
    assert.equal(compareResults(add, right, { ...right, rflags: right.rflags ^ 0x40 })?.what, "rflags");
    assert.equal(compareResults(add, right, { ...right, memory: [] })?.what, "memory+0x100");
    assert.deepEqual(compareResults(add, right, { ...right, vector: 6, rip: 0x2000_0000n }), {
      what: "vector",
      expected: "#BP at 0x2000000b",
      actual: "#UD at 0x20000000",
    });
    const fx = right.fx.slice();
    fx[160 + 16 * 3] = 1;
    assert.equal(compareResults(add, right, { ...right, fx })?.what, "xmm3");
  });

  it("overlooks what is undefined where the case ended", () => {
    const right = run(add);
    const ignoring = { ...add, ignore: { rflags: [{ at: 2, mask: 0x40 }] } };
    assert.equal(compareResults(ignoring, right, { ...right, rflags: right.rflags ^ 0x40 }), undefined);
    const earlier = { ...right, vector: 6, rip: 0x2000_0000n };
    assert.equal(compareResults(ignoring, earlier, { ...earlier, rflags: right.rflags ^ 0x40 })?.what, "rflags");
    const blind = { ...add, ignore: { memory: [{ offset: 0x100, lengthBytes: 8 }] } };
    assert.equal(compareResults(blind, right, { ...right, memory: [] }), undefined);
  });

  it("takes a timeout of the reference as no verdict", () => {
    const right = run(add);
    assert.equal(compareResults(add, { ...right, kind: "timeout" }, { ...right, rflags: 1 }), undefined);
  });
});

describe("shrink", () => {
  it("drops instructions, registers, state and memory that do not matter", () => {
    const generator = new Generator({ seed: 21, specs: SAMPLE_SPECS });
    let c = generator.next();
    while ((c.instructions?.length ?? 0) < 5 || c.fx === undefined) c = generator.next();
    const kept = c.instructions?.[2];
    const needle = Buffer.from(c.code.subarray(kept?.at, c.instructions?.[3].at));
    const small = shrink(c, (candidates) =>
      candidates.map((x) => Buffer.from(x.code).includes(needle) && x.gprs[3] === c.gprs[3]),
    );
    assert.deepEqual(
      small.instructions?.map(({ at, text }) => [at, text]),
      [[0, kept?.text]],
    );
    assert.deepEqual(Buffer.from(small.code), needle);
    assert.equal(small.fx, undefined);
    assert.equal(small.rflags, 0);
    assert.deepEqual(
      [...small.gprs].filter((v) => v !== 0n),
      [c.gprs[3]].filter((v) => v !== 0n),
    );
  });

  it("saves regressions under the same name for the same contents", () => {
    inTemporaryFolder((folder) => {
      const testCase = makeCase({ code: new Uint8Array([0x90]) });
      const expected: TestResult = {
        kind: "trap",
        vector: 3,
        errorCode: 0,
        cr2: 0n,
        rip: 0x2000_0002n,
        rflags: 0,
        gprs: testCase.gprs,
        fx: new Uint8Array(512),
        memory: [],
      };
      const path = saveRegression(folder, { note: "nop", testCase, expected });
      assert.equal(saveRegression(folder, { note: "nop", testCase, expected }), path);
      assert.deepEqual(loadRegressions(folder), [{ note: "nop", testCase, expected }]);
      assert.deepEqual(loadRegressions(join(folder, "none")), []);
    });
  });
});
