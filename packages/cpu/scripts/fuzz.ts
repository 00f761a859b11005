/**
 * Compares the engine with this host's processor on random instruction sequences.
 *
 *   npm run fuzz -- --minutes 10               with a seed of the clock, which is printed
 *   npm run fuzz -- --minutes 1 --seed 7 --only '^F(ADD|SUB)' --length 2 --translate
 *
 * Differences are shrunk and saved in vectors/regressions, which the tests run.
 */
import { parseArgs } from "node:util";
import { excludedSpecs, fuzz } from "@xenoserver/testkit";
import { judgedSpecs, REGRESSIONS } from "../src/testing/batches.ts";
import { CaseEngine } from "../src/testing/case-engine.ts";
import { RecallingEngine } from "../src/testing/earlier-run.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    only: { type: "string", default: "" },
    length: { type: "string", default: "4" },
    translate: { type: "boolean", default: false },
    recall: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(`usage: npm run fuzz -- [--minutes N] [--seed N] [--only PATTERN] [--length INSTRUCTIONS] [--translate | --recall]

Random instruction sequences on this host's processor and in the engine, compared. --only takes mnemonics that match;
--translate runs everything through the translator, --recall what an earlier run translated. Status 1 if anything differed.`);
  process.exit(0);
}
const only = new RegExp(values.only);
const specs = judgedSpecs().filter((s) => only.test(s.mnemonic));
const excluded = excludedSpecs(specs);
for (const reason of new Set(excluded.map((e) => e.reason))) {
  const names = new Set(excluded.filter((e) => e.reason === reason).map((e) => e.spec.mnemonic));
  console.log(`left out (${reason}): ${[...names].join(" ")}`);
}
console.log(`seed ${values.seed}, ${specs.length - excluded.length} encodings`);
const engine = values.recall ? new RecallingEngine() : new CaseEngine(values.translate ? "always" : "never");
const report = fuzz({
  engine,
  specs,
  seed: Number(values.seed),
  minutes: Number(values.minutes),
  maxInstructions: Number(values.length),
  folder: REGRESSIONS,
  log: console.log,
});
if (engine instanceof RecallingEngine) console.log(`${engine.recalled} regions of earlier runs were entered`);
console.log(`${report.cases} cases, ${report.failures.length} differences in ${Math.round(report.seconds)} s`);
process.exitCode = report.failures.length ? 1 : 0;
