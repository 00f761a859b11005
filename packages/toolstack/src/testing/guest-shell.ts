/** A booted guest with a shell on its console, for tests and measurements. */
import type { DomainConfig } from "../cfg/index.ts";
import { type ExitReport, launchDomain, planDomain, type RunningDomain } from "../domain/index.ts";
import { INIT_MARKER } from "../guest/index.ts";

export interface CommandResult {
  /** What the command printed, without the echoed input; lines end in "\n". */
  readonly output: string;
  readonly status: number;
  readonly seconds: number;
}

/** The prompt, behind which the shell may ask the terminal for the cursor's position by four characters. */
const PROMPT = /# .{0,4}$/s;

export class GuestShell {
  /** From the start of the domain until init ran. */
  readonly bootSeconds: number;
  /** Everything that the console showed until the first prompt. */
  readonly bootLog: string;
  readonly exited: Promise<ExitReport>;
  readonly #domain: RunningDomain;
  readonly #console: ConsoleText;
  #commands = 0;

  private constructor(domain: RunningDomain, console_: ConsoleText, bootSeconds: number, bootLog: string) {
    this.#domain = domain;
    this.#console = console_;
    this.exited = domain.exited;
    this.bootSeconds = bootSeconds;
    this.bootLog = bootLog;
  }

  /**
   * Boots a guest whose init prints the marker and starts a shell.
   * @throws Error  the guest ended or took longer than `timeoutSeconds`; the message ends in what it had printed last
   */
  static async boot(config: DomainConfig, timeoutSeconds = 120): Promise<GuestShell> {
    const begin = performance.now();
    const text = new ConsoleText();
    const domain = launchDomain(planDomain(config), { onConsole: (bytes) => text.append(bytes) });
    void domain.exited.then((report) => text.end(`the guest ended: ${report.reason}\n${report.detail ?? ""}`));
    try {
      await text.until(new RegExp(INIT_MARKER), timeoutSeconds);
      const bootSeconds = (performance.now() - begin) / 1000;
      const bootLog = await text.until(PROMPT, timeoutSeconds);
      return new GuestShell(domain, text, bootSeconds, bootLog);
    } catch (error) {
      await domain.destroy();
      throw error;
    }
  }

  /** Runs one command line. @throws Error  as `boot` */
  async run(command: string, timeoutSeconds = 60): Promise<CommandResult> {
    const mark = `XENO${++this.#commands}`;
    const begin = performance.now();
    this.#console.clear();
    // Marks are joined from two words, so that the echo of what is typed does not look like them.
    const quoted = `'${command.replaceAll("'", "'\\''")}'`;
    await this.#domain.writeConsole(Buffer.from(`echo ${mark}""_BEGIN; eval ${quoted}; echo ${mark}""_STATUS=$?\n`));
    const end = new RegExp(`${mark}_BEGIN\r?\n(.*?)${mark}_STATUS=(\\d+)\r?\n`, "s");
    const [, output, status] = end.exec(await this.#console.until(end, timeoutSeconds))!;
    const seconds = (performance.now() - begin) / 1000;
    return { output: output!.replaceAll("\r", "").replace(/\n$/, ""), status: Number(status), seconds };
  }

  /** Types text as it is. */
  type(text: string): Promise<void> {
    return this.#domain.writeConsole(Buffer.from(text));
  }

  /** Waits for text on the console. @returns everything since the last command */
  until(pattern: RegExp, timeoutSeconds = 60): Promise<string> {
    return this.#console.until(pattern, timeoutSeconds);
  }

  /** Has the guest power off. */
  async powerOff(): Promise<ExitReport> {
    await this.#domain.writeConsole(Buffer.from("poweroff -f\n"));
    return this.exited;
  }

  destroy(): Promise<void> {
    return this.#domain.destroy();
  }
}

/** Console output as it grows. */
class ConsoleText {
  #text = "";
  #ended: string | undefined;
  #wake = Promise.withResolvers<void>();

  append(bytes: Uint8Array): void {
    this.#text += Buffer.from(bytes).toString("latin1");
    this.#notify();
  }

  end(reason: string): void {
    this.#ended = reason;
    this.#notify();
  }

  clear(): void {
    this.#text = "";
  }

  async until(pattern: RegExp, timeoutSeconds: number): Promise<string> {
    const deadline = performance.now() + timeoutSeconds * 1000;
    while (!pattern.test(this.#text)) {
      const left = deadline - performance.now();
      const problem = this.#ended ?? (left <= 0 ? `nothing like ${pattern} within ${timeoutSeconds} s` : undefined);
      if (problem !== undefined) throw new Error(`${problem}; the console's last words:\n${this.#text.slice(-2000)}`);
      const timer = setTimeout(() => this.#notify(), left);
      await this.#wake.promise;
      clearTimeout(timer);
    }
    return this.#text;
  }

  #notify(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }
}
