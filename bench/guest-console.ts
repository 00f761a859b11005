/** Talks to a guest through the standard input and output of the process that runs it. */
import type { ChildProcessByStdio } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { INIT_MARKER } from "@xenoserver/toolstack/guest/index.ts";
import { cpuSecondsOf } from "./process-stats.ts";

export type MachineProcess = ChildProcessByStdio<Writable, Readable, Readable>;

export interface CommandResult {
  readonly output: string;
  readonly status: number;
  /** By the guest's clock. */
  readonly guestSeconds: number;
  /** From sending the command until its end was seen. */
  readonly hostSeconds: number;
  /** Processor time that the machine's process took meanwhile. */
  readonly cpuSeconds: number | undefined;
  /** The guest's clock at the end, in seconds since 1970, and the host's when that was read. */
  readonly guestTime: number;
  readonly hostTime: number;
}

export class GuestConsole {
  readonly #process: MachineProcess;
  readonly #begin = performance.now();
  #text = "";
  #errors = "";
  #ended: string | undefined;
  #wake = Promise.withResolvers<void>();

  /** To be made right after the process was started: boot time counts from here. */
  constructor(process: MachineProcess) {
    this.#process = process;
    process.stdout.on("data", (bytes: Buffer) => {
      this.#text += bytes.toString("latin1");
      this.#notify();
    });
    process.stderr.on("data", (bytes: Buffer) => {
      this.#errors += bytes.toString();
    });
    process.on("error", (error) => this.#end(error.message));
    process.on("close", (status, signal) => this.#end(`its process ended with ${signal ?? `status ${status}`}`));
    process.stdin.on("error", () => {});
  }

  /** Waits for init's first words. @returns seconds since the process was started */
  async booted(timeoutSeconds: number): Promise<number> {
    const seconds = await this.shows(new RegExp(INIT_MARKER), timeoutSeconds);
    await this.#until(/bench: ready/, timeoutSeconds);
    return seconds;
  }

  /** Waits for a text. @returns seconds since the process was started  @throws Error  as `run` */
  async shows(pattern: RegExp, timeoutSeconds: number): Promise<number> {
    await this.#until(pattern, timeoutSeconds);
    return (performance.now() - this.#begin) / 1000;
  }

  /** Runs one shell line. @throws Error  the guest ended, or took too long; with its last words */
  async run(line: string, timeoutSeconds: number): Promise<CommandResult> {
    this.#text = "";
    const begin = performance.now();
    const cpuBegin = this.cpuSeconds;
    this.#process.stdin.write(`${line}\n`);
    const pattern = /bench: begin\r?\n(.*)bench: end (\d+) ([\d.]+) ([\d.]+)\r?\n/s;
    const [, output, status, from, to] = await this.#until(pattern, timeoutSeconds);
    return {
      output: output!.replaceAll("\r", ""),
      status: Number(status),
      guestSeconds: Number(to) - Number(from),
      hostSeconds: (performance.now() - begin) / 1000,
      cpuSeconds: cpuBegin === undefined ? undefined : this.cpuSeconds! - cpuBegin,
      guestTime: Number(to),
      hostTime: Date.now() / 1000,
    };
  }

  /** Processor time of the machine's process since its start. */
  get cpuSeconds(): number | undefined {
    return cpuSecondsOf(this.#process.pid!);
  }

  /** Ends the process. */
  async kill(): Promise<void> {
    if (this.#ended !== undefined) return;
    const closed = new Promise((resolve) => this.#process.once("close", resolve));
    this.#process.kill();
    await closed;
  }

  async #until(pattern: RegExp, timeoutSeconds: number): Promise<RegExpExecArray> {
    const deadline = performance.now() + timeoutSeconds * 1000;
    for (;;) {
      const found = pattern.exec(this.#text);
      if (found !== null) return found;
      const left = deadline - performance.now();
      const problem = this.#ended ?? (left <= 0 ? `nothing like ${pattern} within ${timeoutSeconds} s` : undefined);
      if (problem !== undefined) throw new Error(`${problem}\n${(this.#errors + this.#text).slice(-1500)}`);
      const timer = setTimeout(() => this.#notify(), left);
      await this.#wake.promise;
      clearTimeout(timer);
    }
  }

  #end(reason: string): void {
    this.#ended = reason;
    this.#notify();
  }

  #notify(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }
}
