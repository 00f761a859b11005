/** Lists of the host's processors, as xl writes them: "0-3,^1", "all". */
import { Complaint, listOf, type Reader } from "./readers.ts";

/** Processors that are added to a list, or taken from it again; all of them if there are no bounds. */
interface CpuTerm {
  readonly isTaken: boolean;
  readonly bounds?: readonly [first: number, last: number];
}

/** More than any host has; a list is walked through. */
const MAX_CPU = 65_535;
const EXPECTED = 'expected processors such as "0-3,^1" or "all"';

export const ALL_CPUS = "all";

/**
 * Checks how a list is written; which processors there are is the host's affair.
 * @returns it as it is kept
 * @throws Complaint
 */
export function parseCpuList(written: string): string {
  termsOf(written);
  return written.replaceAll(/\s/g, "");
}

/** One list for every vcpu, or a list of one for each. */
export const readCpus: Reader<string | string[]> = (value) =>
  value.kind === "list" ? listOf("processors", parseCpuList)(value) : parseCpuList(value.text);

/**
 * As in xl, terms count from left to right.
 * @param all  the host's processors
 * @returns    in ascending order
 * @throws Complaint  there is no such processor, or none is left
 */
export function resolveCpuList(written: string, all: readonly number[]): number[] {
  const chosen = new Set<number>();
  for (const { isTaken, bounds } of termsOf(written)) {
    for (const cpu of bounds === undefined ? all : range(bounds)) {
      if (!all.includes(cpu))
        throw new Complaint(`has processor ${cpu}, expected those that there are: ${formatCpuList(all)}`);
      if (isTaken) chosen.delete(cpu);
      else chosen.add(cpu);
    }
  }
  if (chosen.size === 0) throw new Complaint(`${JSON.stringify(written)} leaves no processor, expected one at least`);
  return [...chosen].sort((a, b) => a - b);
}

/** @param cpus  in ascending order */
export function formatCpuList(cpus: readonly number[]): string {
  const runs: [first: number, last: number][] = [];
  for (const cpu of cpus) {
    const run = runs.at(-1);
    if (run !== undefined && run[1] === cpu - 1) run[1] = cpu;
    else runs.push([cpu, cpu]);
  }
  return runs.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}

/** As in xl, nothing between two commas counts for nothing, and "^all" is none. */
function termsOf(written: string): CpuTerm[] {
  const parts = written.split(",").map((part) => part.trim());
  const complain = (why = ""): never => {
    throw new Complaint(`is ${JSON.stringify(written)}${why}, ${EXPECTED}`);
  };
  const terms = parts
    .filter((part) => part !== "")
    .map((part): CpuTerm => {
      if (part === ALL_CPUS) return { isTaken: false };
      if (/^\^?nodes?:/.test(part)) return complain(", and nodes are not supported yet");
      const match = /^(\^?)(\d{1,5})(?:-(\d{1,5}))?$/.exec(part);
      if (match === null) return complain();
      const [first, last] = [Number(match[2]), Number(match[3] ?? match[2])];
      return first > last || last > MAX_CPU ? complain() : { isTaken: match[1] === "^", bounds: [first, last] };
    });
  return terms.length === 0 ? complain() : terms;
}

const range = ([first, last]: readonly [number, number]): number[] =>
  Array.from({ length: last - first + 1 }, (_, n) => first + n);
