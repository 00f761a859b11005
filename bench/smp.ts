/**
 * What a guest with more vcpus than the host has processors gets done: the same work by one process and by one for each vcpu, in one guest.
 *
 *   npm run bench -- --smp [--reps 3]
 *
 * QEMU is not beside it: without ACPI its microvm has one processor, and with ACPI Debian's kernel did not boot there with four.
 */
import { availableParallelism } from "node:os";
import { GuestConsole } from "./guest-console.ts";
import type { GuestSource } from "./guest-files.ts";
import type { Machine } from "./machines.ts";
import { median } from "./summary.ts";

const VCPUS = 4;
const MEMORY_MIB = 512;
const BOOT_SECONDS = 180;
const RUN_SECONDS = 180;
/** Times that both are run in a guest; the first is the first time that its code runs there. */
const ROUNDS = 3;

/** Each work is one process: two of a pipe would have two vcpus. */
interface Work {
  readonly title: string;
  readonly line: string;
}
const WORKS: readonly Work[] = [
  { title: "sha256sum of 64 MiB", line: "sha256sum /tmp/zeros" },
  { title: "an ash loop, 100,000 times", line: "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done" },
];

export interface SmpSample {
  readonly work: string;
  /** Counts from 0 in each guest. */
  readonly round: number;
  readonly oneSeconds: number;
  /** All together. */
  readonly allSeconds: number;
}

/** @throws Error  a guest or a command fails */
export async function benchSmp(
  source: GuestSource,
  machine: Machine,
  repetitions: number,
  progress: (line: string) => void,
): Promise<readonly SmpSample[]> {
  const initramfs = await source.initramfs([], { network: false, disk: false });
  const guest = { kernel: source.kernel, initramfs, memoryMib: MEMORY_MIB, vcpus: VCPUS, network: false };
  const samples: SmpSample[] = [];
  for (let repetition = 0; repetition < repetitions; repetition++) {
    const console = new GuestConsole(machine.start(guest));
    try {
      await console.booted(BOOT_SECONDS);
      const { output } = await console.run("head -c 67108864 /dev/zero >/tmp/zeros; nproc", RUN_SECONDS);
      if (Number(output) !== VCPUS) throw new Error(`the guest has ${output.trim()} processors, expected ${VCPUS}`);
      for (let round = 0; round < ROUNDS; round++)
        for (const work of WORKS) {
          const sample = { work: work.title, round, ...(await measure(console, work)) };
          progress(describe(sample));
          samples.push(sample);
        }
    } finally {
      await console.kill();
    }
  }
  return samples;
}

async function measure(guest: GuestConsole, { line }: Work): Promise<Pick<SmpSample, "oneSeconds" | "allSeconds">> {
  const seconds = async (command: string): Promise<number> => {
    const { status, output, guestSeconds } = await guest.run(command, RUN_SECONDS);
    if (status !== 0) throw new Error(`${command}: status ${status}: ${output}`);
    return guestSeconds;
  };
  const oneSeconds = await seconds(`{ ${line}; } >/dev/null`);
  const allSeconds = await seconds(`for n in $(seq ${VCPUS}); do { ${line}; } >/dev/null & done; wait`);
  return { oneSeconds, allSeconds };
}

const gain = ({ oneSeconds, allSeconds }: SmpSample): number => (VCPUS * oneSeconds) / allSeconds;
const describe = (sample: SmpSample): string =>
  `${sample.work}, round ${sample.round}: one ${sample.oneSeconds.toFixed(2)} s, ${VCPUS} together ${sample.allSeconds.toFixed(2)} s, ${gain(sample).toFixed(2)} x the throughput`;

/** @returns lines of a table */
export function describeSmp(samples: readonly SmpSample[]): string[] {
  const lines = [
    `${VCPUS} vcpus on ${availableParallelism()} processors: throughput of ${VCPUS} processes over that of one, medians`,
  ];
  const of = (some: readonly SmpSample[]): string => `${median(some.map(gain))!.toFixed(2)} x`;
  for (const { title } of WORKS) {
    const these = samples.filter((sample) => sample.work === title);
    const [first, later] = [these.filter(({ round }) => round === 0), these.filter(({ round }) => round > 0)];
    lines.push(`${title.padEnd(30)} first ${of(first)}   later ${of(later)}`);
  }
  return lines;
}
