import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { checkAnswer, KNOWN_ANSWERS } from "@xenoserver/testkit";
import { CaseEngine } from "./testing/case-engine.ts";

/** Not offered in CPUID: the right answer is #UD. */
const NOT_OFFERED = new Set(["movbe"]);

describe("answers worked out by hand from the manuals", () => {
  for (const translate of ["never", "always"] as const) {
    it(`translate: ${translate}`, () => {
      const asked = KNOWN_ANSWERS.filter(({ name }) => !NOT_OFFERED.has(name));
      assert.ok(asked.length > 150);
      const results = new CaseEngine(translate).run(asked.map(({ testCase }) => testCase));
      const wrong = asked.flatMap((known, n) => checkAnswer(known, results[n]).map((line) => `${known.name}: ${line}`));
      assert.deepEqual(wrong, []);
    });
  }
});
