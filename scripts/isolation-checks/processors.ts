/** Who has had how much of the host's processors, as the kernel counts it. */
import { readdirSync, readFileSync } from "node:fs";

const TICKS_PER_SECOND = 100;
/** Whose children the kernel's own threads are. */
const KTHREADD = 2;

interface Spent {
  readonly parent: number;
  /** Processor seconds since it began. */
  readonly seconds: number;
}

/** Undefined if it is gone. */
function spentBy(pid: number): Spent | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" ");
    return { parent: Number(fields[1]), seconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND };
  } catch {
    return undefined;
  }
}

/** Of all programs, without what the kernel does by itself and in interrupts. */
function secondsOfPrograms(): number {
  const [user, nice, system] = /^cpu +(.*)$/m.exec(readFileSync("/proc/stat", "utf8"))![1]!.split(" ").map(Number);
  const all = (user! + nice! + system!) / TICKS_PER_SECOND;
  const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return processes.reduce((rest, pid) => {
    const spent = spentBy(Number(pid));
    return spent?.parent === KTHREADD ? rest - spent.seconds : rest;
  }, all);
}

export interface Shares {
  /** By process, in the order that was asked for: of one processor's time. */
  readonly processes: readonly number[];
  /** What programs had that were not asked for. */
  readonly others: number;
}

/** @returns what tells the shares since now */
export function watchProcessors(pids: readonly number[]): () => Shares {
  const read = () => ({
    atMs: performance.now(),
    programs: secondsOfPrograms(),
    processes: pids.map((pid) => spentBy(pid)?.seconds ?? Number.NaN),
  });
  const before = read();
  return () => {
    const after = read();
    const seconds = (after.atMs - before.atMs) / 1000;
    const processes = after.processes.map((end, n) => (end - before.processes[n]!) / seconds);
    const programs = (after.programs - before.programs) / seconds;
    return {
      processes,
      others: Math.max(
        0,
        processes.reduce((rest, share) => rest - share, programs),
      ),
    };
  };
}
