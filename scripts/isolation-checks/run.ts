/**
 * What a domain loses beside another that takes what it can get: of its disk, of processes, of memory, of the processors. After the performance isolation in
 * "Xen and the Art of Virtualization" (SOSP 2003), section 4.4. It takes Linux with two processors, and taskset.
 *
 *   npm run isolation-checks              each on a processor of its own, and bps= and iops= for the other's disk
 *   npm run isolation-checks -- --bare    wherever the host puts them, without limits
 *   npm run isolation-checks -- --most 5  fails if more than 5 % is lost anywhere
 *   npm run isolation-checks -- --quiet 20   measures again what it measured while the rest of the host took more than 20 % of a processor
 */
import { availableParallelism, cpus, loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";
import { median } from "../../bench/summary.ts";
import { whenInterrupted } from "../interrupted.ts";
import { runChecks } from "../migration-checks/leftovers.ts";
import { buildGuests, HOGS, type Hog, LOADS, type Load } from "./guest.ts";
import { DOMAINS, IsolationServer } from "./server.ts";

const { values } = parseArgs({
  options: {
    bare: { type: "boolean", default: false },
    hogs: { type: "string", default: Object.keys(HOGS).join() },
    pairs: { type: "string", default: "8" },
    seconds: { type: "string", default: "2" },
    quiet: { type: "string" },
    most: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const CHECKS = "isolation";
const WEIGHTS = [256, 128, 64];
/** A measured guest gets faster for a while, as what it runs is translated. */
const WARM_SECONDS = 15;
const MAX_TRIES = 30;
const tell = (line: string): void => console.error(line);
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const middle = (numbers: readonly number[]): number => median(numbers) ?? Number.NaN;

/** A while of one load; shares are parts of a processor. */
interface Slice {
  readonly rate: number;
  readonly hog: number;
  readonly victim: number;
  readonly others: number;
}
/** One load alone, while the other domain was halted, and beside it. */
interface Comparison {
  readonly hog: Hog;
  readonly load: Load;
  readonly alone: readonly Slice[];
  readonly beside: readonly Slice[];
}

async function main(folder: string): Promise<boolean> {
  if (!values.bare && availableParallelism() < 2) throw new Error("there is one processor, expected two, or --bare");
  const debian = await DebianGuest.open();
  if (typeof debian === "string") throw new Error(debian);
  const server = new IsolationServer(folder, await buildGuests(debian), !values.bare);
  try {
    return await Promise.race([interrupted, check(server)]);
  } finally {
    await server.close();
  }
}

async function check(server: IsolationServer): Promise<boolean> {
  await server.startVictim();
  tell("the measured guest serves; it is asked until it has got fast");
  for (const load of LOADS_IN_ORDER) await server.victim.rate(load, WARM_SECONDS);
  const comparisons: Comparison[] = [];
  for (const hog of values.hogs.split(",") as Hog[]) {
    await server.startHog(hog);
    for (const load of LOADS_IN_ORDER) {
      const comparison = await compare(server, hog, load);
      comparisons.push(comparison);
      const [alone, beside] = [rateOf(comparison.alone), rateOf(comparison.beside)];
      const { lost, between, dearer, shorter } = lossOf(comparison);
      const pairs = between.map(percent).join(" to ");
      tell(
        `${hog}: ${alone.toFixed(1)} ${load} alone, ${beside.toFixed(1)} beside it: ${percent(lost)} lost, half of the pairs ${pairs}; each ${percent(dearer)} dearer, ${percent(shorter)} less time; others took ${percent(othersOf([comparison]))}`,
      );
    }
    await server.stopHog(hog);
  }
  const shares = values.bare ? undefined : await server.shares(WEIGHTS, 20);
  return conclude(comparisons, shares);
}

const LOADS_IN_ORDER = Object.keys(LOADS) as Load[];
const rateOf = (slices: readonly Slice[]): number => middle(slices.map(({ rate }) => rate));
const othersOf = (some: readonly Comparison[]): number =>
  middle(some.flatMap(({ alone, beside }) => [...alone, ...beside]).map(({ others }) => others));

interface Loss {
  /** The part that it did not do. */
  readonly lost: number;
  /** The middle half of the pairs, each by itself. */
  readonly between: readonly [number, number];
  /** How much more of a processor's time each request took: processors were slower, as by caches and memory that they share. */
  readonly dearer: number;
  /** The part of the processor's time that it did not have: others had it. */
  readonly shorter: number;
}
function lossOf({ alone, beside }: Comparison): Loss {
  const losses = alone.map(({ rate }, n) => 1 - beside[n]!.rate / rate).sort((a, b) => a - b);
  const at = (part: number): number => losses[Math.round(part * (losses.length - 1))] ?? Number.NaN;
  const costOf = (slices: readonly Slice[]): number => middle(slices.map(({ victim, rate }) => victim / rate));
  const shareOf = (slices: readonly Slice[]): number => middle(slices.map(({ victim }) => victim));
  return {
    lost: 1 - rateOf(beside) / rateOf(alone),
    between: [at(0.25), at(0.75)],
    dearer: costOf(beside) / costOf(alone) - 1,
    shorter: 1 - shareOf(beside) / shareOf(alone),
  };
}

/** By turns, first the one and then the other first, so that what changes slowly hits both. */
async function compare(server: IsolationServer, hog: Hog, load: Load): Promise<Comparison> {
  const [alone, beside]: [Slice[], Slice[]] = [[], []];
  for (let pair = 0; pair < Number(values.pairs); pair++) {
    for (const runs of pair % 2 === 0 ? [false, true] : [true, false]) {
      await server.letHog(runs);
      (runs ? beside : alone).push(await slice(server, load));
    }
  }
  await server.letHog(true);
  return { hog, load, alone, beside };
}

async function slice(server: IsolationServer, load: Load): Promise<Slice> {
  for (let tries = 1; ; tries++) {
    const watch = server.watch();
    const rate = await server.victim.rate(load, Number(values.seconds));
    const shares = watch();
    const isQuiet = values.quiet === undefined || shares.others <= Number(values.quiet) / 100;
    if (isQuiet || tries === MAX_TRIES) return { rate, ...shares };
    await sleep(1000);
  }
}

function conclude(comparisons: readonly Comparison[], shares: readonly number[] | undefined): boolean {
  const othersShare = othersOf(comparisons);
  if (values.json) {
    const host = { cpu: cpus()[0]!.model, cpus: cpus().length, load: loadavg()[0] };
    const rows = comparisons.map((one) => ({ ...one, ...lossOf(one) }));
    const settings = values.bare ? "bare" : "apart";
    console.log(JSON.stringify({ settings, host, othersShare, comparisons: rows, weights: WEIGHTS, shares }));
  } else {
    const row = (cells: readonly string[]): string =>
      cells.map((cell, n) => (n === 0 ? cell.padEnd(38) : cell.padStart([0, 8, 12, 8, 8, 8, 20, 8, 10][n]!))).join(" ");
    console.log(
      row([
        "beside a domain that",
        "it took",
        "",
        "alone",
        "beside",
        "lost",
        "half of the pairs",
        "dearer",
        "less time",
      ]),
    );
    for (const one of comparisons) {
      const { lost, between, dearer, shorter } = lossOf(one);
      const isFirst = one.load === LOADS_IN_ORDER[0];
      const took = percent(middle(one.beside.map(({ hog }) => hog)));
      const rates = [one.alone, one.beside].map((slices) => rateOf(slices).toFixed(1));
      const losses = [lost, dearer, shorter].map(percent).toSpliced(1, 0, between.map(percent).join(" to "));
      console.log(row([isFirst ? HOGS[one.hog] : "", took, one.load, ...rates, ...losses]));
    }
    console.log(`the rest of the host took ${percent(othersShare)} of a processor meanwhile`);
    if (shares !== undefined)
      console.log(`weights ${WEIGHTS.join(", ")} on one processor: ${shares.map(percent).join(", ")} of what they had`);
  }
  return (
    values.most === undefined || Math.max(...comparisons.map((one) => lossOf(one).lost)) <= Number(values.most) / 100
  );
}

const interrupted = whenInterrupted();
await runChecks(CHECKS, DOMAINS, main);
