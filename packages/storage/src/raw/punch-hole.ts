/**
 * Gives back the space of ranges in a file. Node has no call for it, but util-linux has a program; ranges that come while
 * it runs are joined for its next run, so that a guest's many small discards do not start as many processes.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";

interface Range {
  start: number;
  end: number;
}

let program: string | undefined | null;

function findProgram(): string | undefined {
  if (program === undefined)
    program = ["/usr/bin/fallocate", "/bin/fallocate"].find((path) => existsSync(path)) ?? null;
  return program ?? undefined;
}

export const canPunchHoles = (): boolean => findProgram() !== undefined;

export class HolePuncher {
  readonly #path: string;
  #waiting: Range[] = [];
  #running: Promise<void> | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** Settles when the range is given back, or cannot be: discarding is a favour, so its failure is none. */
  async punch(offset: number, lengthBytes: number): Promise<void> {
    this.#waiting.push({ start: offset, end: offset + lengthBytes });
    const before = this.#running;
    if (before !== undefined) await before;
    // The first to come by starts the next run, which takes everybody's ranges along.
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    await this.#running;
  }

  async #run(): Promise<void> {
    const ranges = joined(this.#waiting);
    this.#waiting = [];
    for (const { start, end } of ranges) await punchOne(this.#path, start, end - start);
  }
}

function punchOne(path: string, offset: number, lengthBytes: number): Promise<void> {
  const args = ["--punch-hole", "--offset", String(offset), "--length", String(lengthBytes), path];
  return new Promise((resolve) => {
    const child = spawn(findProgram()!, args, { stdio: "ignore" });
    child.on("error", () => resolve());
    child.on("close", () => resolve());
  });
}

/** The same bytes in fewer, ascending ranges. */
export function joined(ranges: readonly Readonly<Range>[]): Range[] {
  const result: Range[] = [];
  for (const { start, end } of [...ranges].sort((a, b) => a.start - b.start)) {
    const last = result.at(-1);
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end);
    else result.push({ start, end });
  }
  return result;
}
