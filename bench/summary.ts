/** From measurements to medians and ratios. */
import type { MemoryUse } from "./process-stats.ts";

export type MachineId = "tcg" | "ours";

/** One row, measured on both machines several times. */
export interface Row {
  readonly id: string;
  readonly title: string;
  /** "s" for times; otherwise a rate, of which more is better. */
  readonly unit: string;
  readonly values: Readonly<Record<MachineId, readonly number[]>>;
  /** Processor time of the machine's process for the same stretch, where that means anything. */
  readonly cpuSeconds: Readonly<Record<MachineId, readonly number[]>>;
  readonly failures: readonly string[];
}

/** Guest's seconds and host's over the same stretch. */
export interface ClockCheck {
  readonly guestSeconds: number;
  readonly hostSeconds: number;
}

export interface MemoryOf extends MemoryUse {
  /** How many the guest had. */
  readonly vcpus: number;
}

export interface Measurements {
  readonly date: string;
  readonly host: { readonly cpu: string; readonly cpus: number; readonly node: string; readonly system: string };
  /** Load averages over one minute, at the start and at the end. */
  readonly load: readonly [before: number, after: number];
  readonly kernel: string;
  readonly machines: Readonly<Partial<Record<MachineId, string>>>;
  readonly repetitions: number;
  readonly rows: readonly Row[];
  readonly clocks: Readonly<Record<MachineId, readonly ClockCheck[]>>;
  /** Of our process, in guests without packages. */
  readonly memory: readonly MemoryOf[];
}

export interface Ratio {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  readonly tcg: number | undefined;
  readonly ours: number | undefined;
  /** Our time over TCG's: 1 is equal, 2 takes twice as long. Of rates, TCG's over ours. */
  readonly ratio: number | undefined;
  /** Our processor time over TCG's: hardly changed by other work on the host. */
  readonly cpuRatio: number | undefined;
}

export interface Summary {
  readonly ratios: readonly Ratio[];
  readonly geometricMean: number | undefined;
  readonly cpuGeometricMean: number | undefined;
  /** Largest part by which a guest's clock ran off the host's, e.g. 0.01 for 1 %. */
  readonly clockError: Readonly<Record<MachineId, number | undefined>>;
  /** Largest peak memory beyond what the guest touched, by its number of vcpus. */
  readonly overheadBytes: Readonly<Record<number, number>>;
}

export function median(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return undefined;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function geometricMean(values: readonly number[]): number | undefined {
  if (values.length === 0) return undefined;
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

export function summarise({ rows, clocks, memory }: Measurements): Summary {
  const ratios = rows.map(({ id, title, unit, values, cpuSeconds }): Ratio => {
    const [tcg, ours] = [median(values.tcg), median(values.ours)];
    const ratio = unit === "s" ? quotient(ours, tcg) : quotient(tcg, ours);
    return { id, title, unit, tcg, ours, ratio, cpuRatio: quotient(median(cpuSeconds.ours), median(cpuSeconds.tcg)) };
  });
  const error = (machine: MachineId): number | undefined =>
    largest(
      clocks[machine]
        .filter(({ hostSeconds }) => hostSeconds >= CLOCK_SECONDS)
        .map(({ guestSeconds, hostSeconds }) => Math.abs(guestSeconds / hostSeconds - 1)),
    );
  return {
    ratios,
    geometricMean: geometricMean(ratios.flatMap(({ ratio }) => ratio ?? [])),
    cpuGeometricMean: geometricMean(ratios.flatMap(({ cpuRatio }) => cpuRatio ?? [])),
    clockError: { tcg: error("tcg"), ours: error("ours") },
    overheadBytes: overheads(memory),
  };
}

function overheads(memory: readonly MemoryOf[]): Record<number, number> {
  const most: Record<number, number> = {};
  for (const { vcpus, peakBytes, guestBytes } of memory)
    most[vcpus] = Math.max(most[vcpus] ?? 0, peakBytes - guestBytes);
  return most;
}

const quotient = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined || b === undefined ? undefined : a / b;

const largest = (values: readonly number[]): number | undefined =>
  values.length === 0 ? undefined : Math.max(...values);

const CLOCK_TOLERANCE = 0.01;
/** Of a guest that runs for less, as one that only boots, it is when the clocks are read that differs. */
const CLOCK_SECONDS = 1;

/** The table for a person. */
export function describeSummary(measured: Measurements, summary: Summary): string {
  const { machines, host, load, repetitions, kernel } = measured;
  const figure = (value: number | undefined, unit: string): string =>
    value === undefined ? "–" : `${value >= 1000 ? value.toFixed(0) : value.toPrecision(3)} ${unit}`;
  const times = (ratio: number | undefined): string => (ratio === undefined ? "–" : `${ratio.toFixed(2)} ×`);
  const cells = summary.ratios.map(({ title, unit, tcg, ours, ratio, cpuRatio }) => [
    title,
    figure(tcg, unit),
    figure(ours, unit),
    times(ratio),
    times(quotient(1, ratio)),
    times(cpuRatio),
  ]);
  const { geometricMean: mean, cpuGeometricMean } = summary;
  cells.push(["geometric mean", "", "", times(mean), times(quotient(1, mean)), times(cpuGeometricMean)]);
  const percent = (part: number | undefined): string => (part === undefined ? "–" : `${(part * 100).toFixed(2)} %`);
  const overhead = Object.entries(summary.overheadBytes).map(
    ([vcpus, bytes]) => `${(bytes / 2 ** 20).toFixed(0)} MiB with ${vcpus} vcpu${vcpus === "1" ? "" : "s"}`,
  );
  return [
    `${host.cpu}, ${host.cpus} CPUs, ${host.system}, Node ${host.node}; load ${load[0].toFixed(1)} before, ${load[1].toFixed(1)} after`,
    `Linux ${kernel}; medians of ${repetitions}`,
    `TCG:  ${machines.tcg ?? "not measured"}`,
    `ours: ${machines.ours ?? "not measured"}`,
    "",
    ...table([["", "TCG", "ours", "time", "speed", "CPU time"], ...cells]),
    "",
    `guest's clock against the host's: TCG off by ${percent(summary.clockError.tcg)}, ours by ${percent(summary.clockError.ours)}`,
    `peak memory beyond what the guest touched: ${overhead.join(", ") || "–"}`,
    ...(Math.max(summary.clockError.tcg ?? 0, summary.clockError.ours ?? 0) > CLOCK_TOLERANCE
      ? ["A guest's clock was wrong: do not trust these figures."]
      : []),
    ...measured.rows.flatMap(({ title, failures }) => failures.map((failure) => `FAILED ${title}: ${failure}`)),
  ].join("\n");
}

function table(lines: readonly (readonly string[])[]): string[] {
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines.map((line) =>
    line
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]! + 2)))
      .join("")
      .trimEnd(),
  );
}
