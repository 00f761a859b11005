/** Runs the guests and collects what they say. */
import { GuestConsole } from "./guest-console.ts";
import { LOGIN_PROMPT } from "./login.ts";
import type { GuestSpec, Machine } from "./machines.ts";
import { memoryOf } from "./process-stats.ts";
import type { ClockCheck, MachineId, MemoryOf, Row } from "./summary.ts";
import { BOOT, LOGIN, type Workload, type WorkloadSet } from "./workloads.ts";

const BOOT_TIMEOUT_SECONDS = 180;
const COMMAND_TIMEOUT_SECONDS = 900;

type MutableRow = Row & {
  readonly values: Record<MachineId, number[]>;
  readonly cpuSeconds: Record<MachineId, number[]>;
  readonly failures: string[];
};

/** Everything measured so far; rows in the order in which they were first met. */
export class Results {
  readonly clocks: Record<MachineId, ClockCheck[]> = { tcg: [], ours: [] };
  readonly memory: MemoryOf[] = [];
  readonly #rows = new Map<string, MutableRow>();

  get rows(): readonly Row[] {
    return [...this.#rows.values()];
  }

  row(id: string, title: string, unit: string): MutableRow {
    const known = this.#rows.get(id);
    if (known !== undefined) return known;
    const row = { id, title, unit, values: { tcg: [], ours: [] }, cpuSeconds: { tcg: [], ours: [] }, failures: [] };
    this.#rows.set(id, row);
    return row;
  }
}

/** Boots one guest on one machine, runs its commands, and ends it. */
export async function measureGuest(
  machine: Machine,
  guest: GuestSpec,
  set: WorkloadSet,
  results: Results,
  progress: (line: string) => void,
): Promise<void> {
  const process = machine.start(guest);
  const shell = new GuestConsole(process);
  const rowOf = ({ id, title, rate }: Workload) => results.row(id, title, rate?.unit ?? "s");
  const warmRowOf = ({ id, title, rate }: Workload) => results.row(`${id}-warm`, `${title}, warm`, rate?.unit ?? "s");
  let current = set.boot ? results.row(BOOT.id, BOOT.title, "s") : undefined;
  try {
    const bootSeconds = await shell.booted(BOOT_TIMEOUT_SECONDS);
    progress(`${machine.id}: ${BOOT.title} ${bootSeconds.toFixed(2)} s`);
    if (current !== undefined) note(current, machine.id, bootSeconds, shell.cpuSeconds);
    const first = await shell.run("true", COMMAND_TIMEOUT_SECONDS);
    if (Number.isNaN(first.guestTime)) throw new Error("the guest's shell has no EPOCHREALTIME");
    for (const workload of set.workloads) {
      const { warmAfter = 0 } = workload;
      for (let turn = 0; turn <= warmAfter; turn++) {
        current = turn === 0 ? rowOf(workload) : warmRowOf(workload);
        const result = await measureCommand(shell, workload);
        const counts = turn === 0 || turn === warmAfter;
        if (typeof result === "string") current.failures.push(`${machine.id}: ${result}`);
        else if (counts) note(current, machine.id, result.value, result.cpuSeconds);
        const text = typeof result === "string" ? result : `${result.value.toPrecision(4)} ${current.unit}`;
        if (counts) progress(`${machine.id}: ${current.title} ${text}`);
      }
    }
    current = undefined;
    const last = await shell.run("true", COMMAND_TIMEOUT_SECONDS);
    results.clocks[machine.id].push({
      guestSeconds: last.guestTime - first.guestTime,
      hostSeconds: last.hostTime - first.hostTime,
    });
    const { memoryMib, vcpus = 1 } = guest;
    const memory = machine.id === "ours" && set.packages.length === 0 && memoryOf(process.pid!, memoryMib, vcpus);
    if (memory) results.memory.push({ vcpus, ...memory });
  } catch (error) {
    const message = `${machine.id}: ${error instanceof Error ? error.message : error}`;
    progress(message);
    for (const row of current === undefined ? set.workloads.map(rowOf) : [current]) row.failures.push(message);
  } finally {
    await shell.kill();
  }
}

/** Boots a system from its disk, up to the login, and ends it. */
export async function measureLogin(
  machine: Machine,
  guest: GuestSpec,
  results: Results,
  progress: (line: string) => void,
): Promise<void> {
  const row = results.row(LOGIN.id, LOGIN.title, "s");
  const console = new GuestConsole(machine.start(guest));
  try {
    const seconds = await console.shows(LOGIN_PROMPT, BOOT_TIMEOUT_SECONDS);
    note(row, machine.id, seconds, console.cpuSeconds);
    progress(`${machine.id}: ${LOGIN.title} ${seconds.toFixed(2)} s`);
  } catch (error) {
    const message = `${machine.id}: ${error instanceof Error ? error.message : error}`;
    progress(message);
    row.failures.push(message);
  } finally {
    await console.kill();
  }
}

function note(row: MutableRow, machine: MachineId, value: number, cpuSeconds: number | undefined): void {
  row.values[machine].push(value);
  if (cpuSeconds !== undefined) row.cpuSeconds[machine].push(cpuSeconds);
}

interface Measured {
  /** Seconds, or the program's own rate. */
  readonly value: number;
  readonly cpuSeconds: number | undefined;
}

/** @returns a sentence if the command failed */
async function measureCommand(shell: GuestConsole, workload: Workload): Promise<Measured | string> {
  if (workload.prepare !== undefined) await shell.run(workload.prepare, COMMAND_TIMEOUT_SECONDS);
  const { output, status, guestSeconds, cpuSeconds } = await shell.run(workload.command, COMMAND_TIMEOUT_SECONDS);
  if (status !== 0 || !workload.expect.test(output)) {
    return `status ${status}, output ${JSON.stringify(output.slice(-300))}`;
  }
  if (workload.rate === undefined) return { value: guestSeconds, cpuSeconds };
  const rate = Number(workload.rate.pattern.exec(output)?.[1]?.replaceAll(",", ""));
  // Such programs run for a fixed time: what that took of the host says nothing.
  return rate > 0
    ? { value: rate, cpuSeconds: undefined }
    : `no rate like ${workload.rate.pattern} in ${JSON.stringify(output.slice(-300))}`;
}
