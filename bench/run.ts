/**
 * Measures the engine beside QEMU's translator: the same kernel, root file system and commands, in turn.
 *
 *   npm run bench                                the short suite, three times
 *   npm run bench -- --only boot,sha256,xz       these rows
 *   npm run bench -- --all                       every row; fetches some 200 MB of Debian packages
 *   npm run bench -- --io                        disks and networks; with --only, those of them that it names
 *   npm run bench -- --engine interpreter        with the translator off
 *   npm run bench -- --kept                      with translations that earlier runs left: three of each guest, not measured
 *   npm run bench -- --reps 5 --json --plot docs/benchmark.svg
 *   npm run bench -- --migration                 live migration beside QEMU's, and nothing else
 *   npm run bench -- --fork                      snapshots, restores and forks, and nothing else
 *   npm run bench -- --idle                      how many domains at rest fit into 4 GiB, or --mib
 *   npm run bench -- --create                    domains by an agent beside xeno run, and nothing else
 *   npm run bench -- --smp                       what four vcpus get done beside one, and nothing else
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, tmpdir, type } from "node:os";
import { dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";
import { PackageError } from "@xenoserver/toolstack/guest/index.ts";
import { benchDisk, type GuestSource, openGuestSource } from "./guest-files.ts";
import { startServers } from "./host-servers.ts";
import { IO_ROWS } from "./io.ts";
import { type LoginSystem, openLoginSystem } from "./login.ts";
import { type Machine, ourMachine, QEMU_HELP, tcgMachine } from "./machines.ts";
import { measureGuest, measureLogin, Results } from "./measure.ts";
import { plotRatios } from "./plot.ts";
import { describeSummary, type Measurements, type MemoryOf, summarise } from "./summary.ts";
import { ALL_ROWS, chooseWorkloads, LOGIN, MEMORY, type WorkloadSet, wants } from "./workloads.ts";

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    all: { type: "boolean", default: false },
    io: { type: "boolean", default: false },
    reps: { type: "string", default: "3" },
    engine: { type: "string", default: "translator" },
    suite: { type: "string" },
    "qemu-cpu": { type: "string" },
    kept: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    plot: { type: "string" },
    migration: { type: "boolean", default: false },
    fork: { type: "boolean", default: false },
    create: { type: "boolean", default: false },
    smp: { type: "boolean", default: false },
    idle: { type: "boolean", default: false },
    mib: { type: "string", default: "4096" },
  },
});

const progress = (line: string): void => console.error(line);
const OUT = join(import.meta.dirname, "out");

function fail(message: string): never {
  console.error(message);
  process.exit(2);
}

const repetitions = Number(values.reps);
if (!Number.isInteger(repetitions) || repetitions < 1) fail(`--reps is ${values.reps}, expected a number from 1 up`);
if (!["translator", "interpreter"].includes(values.engine)) {
  fail(`--engine is ${values.engine}, expected translator or interpreter`);
}

const named = values.only?.split(",") ?? (values.io ? IO_ROWS : undefined);
const only = values.all ? ALL_ROWS : named;

function chosenSets(): WorkloadSet[] {
  try {
    return chooseWorkloads(only);
  } catch (error) {
    return fail((error as Error).message);
  }
}

async function machines(): Promise<Machine[]> {
  const tcg = await tcgMachine(values["qemu-cpu"]);
  if (tcg === undefined) progress(`${QEMU_HELP}. Measuring without it: there will be no ratios.`);
  return tcg === undefined ? [ours()] : [tcg, ours()];
}
const ours = (): Machine => ourMachine(values.engine === "interpreter" ? { translate: "never" } : {}, keptIn);

/** What a guest runs is translated once it is hot, and optimised later: it takes some runs until nothing new is found. */
const EARLIER_RUNS = 3;
const keptIn = values.kept ? mkdtempSync(join(tmpdir(), "xeno-bench-")) : undefined;
process.on("exit", () => {
  if (keptIn !== undefined) rmSync(keptIn, { recursive: true, force: true });
});

/** Of the short suite the row is a part where its disk can be built. */
async function loginSystem(source: GuestSource): Promise<LoginSystem | undefined> {
  if (!wants(LOGIN, only)) return undefined;
  try {
    return await openLoginSystem(source, progress);
  } catch (error) {
    if (only !== undefined || !(error instanceof PackageError)) throw error;
    progress(`${error.message}. Measuring without ${LOGIN.title}.`);
    return undefined;
  }
}

/** What our process takes for a guest with more vcpus that runs the short suite. */
async function measureMemory(source: GuestSource, ours: Machine): Promise<readonly MemoryOf[]> {
  const [set] = chooseWorkloads(undefined);
  const apart = new Results();
  const { memoryMib, network } = set!;
  const { vcpus } = MEMORY;
  const guest = { kernel: source.kernel, initramfs: await source.initramfs([], set!), memoryMib, vcpus, network };
  const tell = (line: string) => progress(`${vcpus} vcpus, for the memory: ${line}`);
  await measureGuest(ours, guest, set!, apart, tell);
  noteFailures(apart.rows);
  return apart.memory;
}

/** Machines take turns, and every other time in the other order, so that a change of the host's load meets both. */
async function measureAll(source: GuestSource, sets: readonly WorkloadSet[], all: readonly Machine[]) {
  const results = new Results();
  const initramfs = new Map<WorkloadSet, string>();
  for (const set of sets) initramfs.set(set, await source.initramfs(set.packages, set));
  const system = await loginSystem(source);
  const earlier = keptIn === undefined ? 0 : EARLIER_RUNS;
  for (let repetition = -earlier; repetition < repetitions; repetition++) {
    const counted = repetition < 0 ? new Results() : results;
    const inTurn = repetition < 0 ? all.slice(-1) : repetition % 2 === 0 ? all : all.toReversed();
    for (const set of sets) {
      const { memoryMib, network } = set;
      const disk = set.disk ? { disk: benchDisk() } : {};
      const guest = { kernel: source.kernel, initramfs: initramfs.get(set)!, memoryMib, network, ...disk };
      for (const machine of inTurn) await measureGuest(machine, guest, set, counted, progress);
    }
    for (const machine of system === undefined ? [] : inTurn)
      await measureLogin(machine, system!.guest(machine.id), counted, progress);
    if (repetition >= 0 && wants(MEMORY, only)) results.memory.push(...(await measureMemory(source, all.at(-1)!)));
  }
  return results;
}

if (values.migration) {
  const { benchMigration } = await import("./migration.ts");
  console.log((await benchMigration(repetitions, progress)).join("\n"));
  process.exit();
}
if (values.fork) {
  const { benchFork, describeFork } = await import("./fork.ts");
  const results = await benchFork(repetitions, progress);
  console.log(values.json ? JSON.stringify(results, undefined, 2) : describeFork(results).join("\n"));
  process.exit();
}
if (values.idle) {
  const mib = Number(values.mib);
  if (!(mib > 0)) fail(`--mib is ${values.mib}, expected a number of MiB`);
  const { benchIdle } = await import("./idle.ts");
  console.log((await benchIdle(mib, progress)).join("\n"));
  process.exit();
}
if (values.create) {
  const { benchCreate } = await import("./create.ts");
  console.log((await benchCreate(repetitions, progress)).join("\n"));
  process.exit();
}
if (values.smp) {
  const { benchSmp, describeSmp } = await import("./smp.ts");
  const samples = await benchSmp(await openGuestSource(values.suite, progress), ours(), repetitions, progress);
  console.log(values.json ? JSON.stringify(samples, undefined, 2) : describeSmp(samples).join("\n"));
  process.exit();
}
const sets = chosenSets();
const all = await machines();
const source = await openGuestSource(values.suite, progress);
const before = loadavg()[0]!;
if (before > 0.5) progress(`the load is ${before.toFixed(1)}: other work takes part in the figures`);
const servers = sets.some(({ network }) => network) ? await startServers(progress) : undefined;
const results = await measureAll(source, sets, all).finally(() => servers?.stop());

const measured: Measurements = {
  date: new Date().toISOString(),
  host: { cpu: cpus()[0]!.model, cpus: cpus().length, node: process.version, system: `${type()} ${release()}` },
  load: [before, loadavg()[0]!],
  kernel: source.kernel.release,
  machines: Object.fromEntries(all.map(({ id, title }) => [id, title])),
  repetitions,
  rows: results.rows,
  clocks: results.clocks,
  memory: results.memory,
};
const summary = summarise(measured);
const json = JSON.stringify({ ...summary, measured }, undefined, 2);
const file = join(OUT, `${measured.date.replaceAll(":", "").slice(0, 17)}-${values.engine}.json`);
write(file, json);
console.log(values.json ? json : describeSummary(measured, summary));
progress(`\nwritten: ${relative(process.cwd(), file)}`);
if (values.plot !== undefined) {
  write(values.plot, plotRatios(summary, measured));
  progress(`written: ${values.plot}`);
}
noteFailures(results.rows);

function noteFailures(rows: Results["rows"]): void {
  if (rows.some(({ failures }) => failures.length > 0)) process.exitCode = 1;
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
