/** Records what this host's processor makes of a fixed set of cases, for hosts that have no such processor. */
import { HostCpu, recordVectors } from "@xenoserver/testkit";
import { fixedCases, VECTORS } from "../src/testing/batches.ts";
import { encodingSpecs } from "../src/testing/specs.ts";

const cases = fixedCases(encodingSpecs(), 42, { each: 2, sequences: 0 });
const results = new HostCpu().run(cases);
const told = cases.flatMap((c, n) => (results[n].kind === "trap" ? [{ c, r: results[n] }] : []));
recordVectors(
  VECTORS,
  told.map((t) => t.c),
  told.map((t) => t.r),
);
console.log(`${told.length} cases in ${VECTORS}`);
