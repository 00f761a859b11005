import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, it } from "node:test";
import {
  compareResults,
  describeFailure,
  HostCpu,
  loadRegressions,
  loadVectors,
  type TestCase,
  type TestResult,
} from "@xenoserver/testkit";
import { fixedCases, judgedSpecs, REGRESSIONS, VECTORS } from "../testing/batches.ts";
import { CaseEngine } from "../testing/case-engine.ts";
import { RecallingEngine } from "../testing/earlier-run.ts";

const WAYS = ["never", "always", "wide"] as const;
const noHost = HostCpu.available() ? false : "this host's processor cannot be asked";

/** The first few cases whose results differ, as text. */
function differences(
  cases: readonly TestCase[],
  expected: readonly TestResult[],
  actual: readonly TestResult[],
): string {
  const found = cases.flatMap((c, n) => {
    const difference = compareResults(c, expected[n], actual[n]);
    return difference ? [describeFailure(c, difference)] : [];
  });
  return found.length ? `${found.length} cases differ\n${found.slice(0, 5).join("\n")}` : "";
}

describe("instructions against a processor", () => {
  const batches = {
    never: { each: 8, sequences: 5000 },
    always: { each: 2, sequences: 1500 },
    wide: { each: 1, sequences: 1000 },
  } as const;
  for (const way of WAYS) {
    it(`agrees with this host's (translate: ${way})`, { skip: noHost }, () => {
      const cases = fixedCases(judgedSpecs(), 1, batches[way]);
      assert.equal(differences(cases, new HostCpu().run(cases), new CaseEngine(way).run(cases)), "");
    });
    it(`agrees with recorded results (translate: ${way})`, { skip: existsSync(VECTORS) ? false : "none" }, () => {
      const vectors = loadVectors(VECTORS);
      const cases = vectors.map((v) => v.testCase);
      const expected = vectors.map((v) => v.expected);
      assert.equal(differences(cases, expected, new CaseEngine(way).run(cases)), "");
    });
    it(`mistakes of the past are not repeated (translate: ${way})`, () => {
      for (const { note, testCase, expected } of loadRegressions(REGRESSIONS)) {
        assert.equal(differences([testCase], [expected], new CaseEngine(way).run([testCase])), "", note);
      }
    });
  }
  it("agrees where an earlier run translated it", () => {
    const vectors = loadVectors(VECTORS);
    const cases = vectors.slice(0, 1500).map((v) => v.testCase);
    const expected = vectors.slice(0, 1500).map((v) => v.expected);
    const engine = new RecallingEngine();
    assert.equal(differences(cases, expected, engine.run(cases)), "");
    assert.ok(engine.recalled > cases.length / 2, `${engine.recalled} regions of ${cases.length} cases were found`);
  });
});
