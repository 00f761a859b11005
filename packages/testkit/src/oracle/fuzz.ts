import type { CaseBits, TestCase, TestEngine, TestResult } from "./case.ts";
import { compareResults, type Difference } from "./compare.ts";
import { describeFailure } from "./describe.ts";
import type { EncodingSpec } from "./encoding-spec.ts";
import { Generator } from "./generate.ts";
import { HostCpu } from "./host.ts";
import { shrink } from "./shrink.ts";
import { saveRegression } from "./vectors.ts";

export interface FuzzOptions {
  readonly engine: TestEngine;
  readonly specs: readonly EncodingSpec[];
  readonly seed: number;
  /** Stop after so many cases or minutes, whichever is given and comes first. */
  readonly cases?: number;
  readonly minutes?: number;
  /** What is right; default the host's CPU. */
  readonly reference?: TestEngine;
  /** Where failures are saved as regressions; not saved if left out. */
  readonly folder?: string;
  /** Stop after so many distinct failures; default 10. */
  readonly failures?: number;
  readonly batchCases?: number;
  readonly maxInstructions?: number;
  /** Passed to the generator. */
  readonly bits?: CaseBits;
  readonly alignmentCheck?: boolean;
  /** Called after each batch and for each failure. */
  readonly log?: (line: string) => void;
}

export interface Failure {
  readonly testCase: TestCase;
  readonly expected: TestResult;
  readonly difference: Difference;
  readonly text: string;
}
export interface FuzzReport {
  readonly cases: number;
  /** Cases whose expected result says nothing: timeouts, system calls. */
  readonly inconclusive: number;
  /** How often the cases ended in each exception vector; #BP is a complete run. */
  readonly vectors: ReadonlyMap<number, number>;
  readonly failures: readonly Failure[];
  readonly seconds: number;
}

/**
 * Runs generated cases on an engine and on the host's CPU, shrinks what differs and saves it.
 * Once an instruction has failed, sequences that contain it are passed over: mend it, then run the same seed again.
 */
export function fuzz(options: FuzzOptions): FuzzReport {
  const { engine, batchCases = 2000, log } = options;
  if (options.cases === undefined && options.minutes === undefined)
    throw new Error("fuzz: expected a number of cases or minutes");
  const reference = options.reference ?? new HostCpu();
  const { maxInstructions, bits, alignmentCheck } = options;
  const generator = new Generator({
    seed: options.seed,
    specs: options.specs,
    ...(bits && { bits }),
    ...(alignmentCheck && { alignmentCheck }),
    ...(maxInstructions && { maxInstructions }),
  });
  const started = performance.now();
  const deadline = started + (options.minutes ?? Number.POSITIVE_INFINITY) * 60_000;
  const limit = options.cases ?? Number.POSITIVE_INFINITY;
  const failures = new Map<string, Failure>();
  const vectors = new Map<number, number>();
  let cases = 0;
  let inconclusive = 0;
  while (cases < limit && performance.now() < deadline && failures.size < (options.failures ?? 10)) {
    const batch = Array.from({ length: Math.min(batchCases, limit - cases) }, () => generator.next());
    const expected = reference.run(batch);
    const actual = engine.run(batch);
    batch.forEach((c, i) => {
      if (expected[i].kind === "trap") vectors.set(expected[i].vector, (vectors.get(expected[i].vector) ?? 0) + 1);
      else inconclusive++;
      const difference = compareResults(c, expected[i], actual[i]);
      if (difference) noteFailure(options, reference, failures, c, difference);
    });
    cases += batch.length;
    log?.(
      `${cases} cases, ${failures.size} failures, ${Math.round(cases / ((performance.now() - started) / 1000))} cases/s`,
    );
  }
  return {
    cases,
    inconclusive,
    vectors,
    failures: [...failures.values()],
    seconds: (performance.now() - started) / 1000,
  };
}

function noteFailure(
  o: FuzzOptions,
  reference: TestEngine,
  failures: Map<string, Failure>,
  c: TestCase,
  first: Difference,
): void {
  if (failures.size >= (o.failures ?? 10)) return;
  // One wrong instruction fails in every sequence it is in.
  const culprits = new Set([...failures.values()].map((f) => lastInstruction(f.testCase)));
  if (c.instructions?.some(({ text }) => culprits.has(text))) return;
  const fails = (candidates: readonly TestCase[]): boolean[] => {
    const expected = reference.run(candidates);
    const actual = o.engine.run(candidates);
    return candidates.map((candidate, i) => {
      const d = compareResults(candidate, expected[i], actual[i]);
      return d !== undefined && kindOf(d) === kindOf(first);
    });
  };
  const testCase = shrink(c, fails);
  const [expected] = reference.run([testCase]);
  const difference = compareResults(testCase, expected, o.engine.run([testCase])[0]) ?? first;
  const key = signature(testCase, difference);
  if (failures.has(key)) return;
  const text = describeFailure(testCase, difference);
  failures.set(key, { testCase, expected, difference, text });
  o.log?.(text);
  if (o.folder !== undefined)
    saveRegression(o.folder, {
      note: `${difference.what}: expected ${difference.expected}, got ${difference.actual}`,
      testCase,
      expected,
    });
}

/** Shrinking must not slide from one fault into another: a wrong register stays one, #PF for #GP stays that. */
const kindOf = (d: Difference): string =>
  d.what === "vector" ? `${d.expected.split(" ")[0]} ${d.actual.split(" ")[0]}` : d.what.replace(/\d+$|\+.*/, "");

const lastInstruction = (c: TestCase): string | undefined => c.instructions?.findLast((x) => x.text !== "nop")?.text;

const signature = (c: TestCase, d: Difference): string =>
  `${d.what.replace(/\d+$|\+.*/, "")} ${lastInstruction(c) ?? Buffer.from(c.code).toString("hex")}`;
