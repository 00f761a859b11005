/** A booted guest with a shell on its console, for tests and measurements. */
import type { DomainConfig } from "../cfg/index.ts";
import {
  type EngineChoice,
  type ExitReport,
  type LaunchOptions,
  launchDomain,
  type RunningDomain,
} from "../domain/index.ts";
import { INIT_MARKER } from "../guest/index.ts";
import type { SavedFile } from "../save/index.ts";

export interface CommandResult {
  /** What the command printed, without the echoed input; lines end in "\n". */
  readonly output: string;
  readonly status: number;
  readonly seconds: number;
}

/** The prompt, behind which the shell may ask the terminal for the cursor's position by four characters. */
const PROMPT = /# .{0,4}$/s;

/** A running domain whose console is read by a program. */
export class ConsoleSession {
  readonly exited: Promise<ExitReport>;
  readonly #domain: RunningDomain;
  readonly #text: ConsoleText;

  private constructor(domain: RunningDomain, text: ConsoleText) {
    this.#domain = domain;
    this.#text = text;
    this.exited = domain.exited;
    void domain.exited.then((report) => text.end(`the guest ended: ${report.reason}\n${report.detail ?? ""}`));
  }

  /** @throws ConfigError  the domain cannot be built */
  static async start(config: DomainConfig, options: LaunchOptions = {}): Promise<ConsoleSession> {
    const text = new ConsoleText();
    const listener = { onConsole: (bytes: Uint8Array) => text.append(bytes) };
    return new ConsoleSession(await launchDomain(config, listener, options), text);
  }

  /** Types text as it is. */
  type(text: string): Promise<void> {
    return this.#domain.writeConsole(Buffer.from(text));
  }

  /**
   * Waits for text on the console.
   * @returns everything since the start, or since `clear`
   * @throws  Error  the guest ended or the time was over; the message ends in what was printed last
   */
  until(pattern: RegExp, timeoutSeconds = 60): Promise<string> {
    return this.#text.until(pattern, timeoutSeconds);
  }

  clear(): void {
    this.#text.clear();
  }

  /** The domain itself, to be changed while it runs. */
  get domain(): RunningDomain {
    return this.#domain;
  }

  destroy(): Promise<void> {
    return this.#domain.destroy();
  }
}

export class GuestShell {
  /** From the start of the domain until init ran. */
  readonly bootSeconds: number;
  /** Everything that the console showed until the first prompt. */
  readonly bootLog: string;
  readonly session: ConsoleSession;
  #commands = 0;

  private constructor(session: ConsoleSession, bootSeconds: number, bootLog: string) {
    this.session = session;
    this.bootSeconds = bootSeconds;
    this.bootLog = bootLog;
  }

  /**
   * Boots a guest whose init prints the marker and starts a shell.
   * @throws Error  the guest ended or took longer than `timeoutSeconds`; the message ends in what it had printed last
   */
  static async boot(config: DomainConfig, timeoutSeconds = 120, engine: EngineChoice = {}): Promise<GuestShell> {
    const begin = performance.now();
    const session = await ConsoleSession.start(config, engine);
    try {
      await session.until(new RegExp(INIT_MARKER), timeoutSeconds);
      const bootSeconds = (performance.now() - begin) / 1000;
      const bootLog = await session.until(PROMPT, timeoutSeconds);
      return new GuestShell(session, bootSeconds, bootLog);
    } catch (error) {
      await session.destroy();
      throw error;
    }
  }

  /** A guest that goes on at its shell's prompt. @throws SaveError */
  static async resume(from: SavedFile, engine: EngineChoice = {}, config = from.config): Promise<GuestShell> {
    return new GuestShell(await ConsoleSession.start(config, { ...engine, from }), 0, "");
  }

  /** Runs one command line. @throws Error  as `boot` */
  async run(command: string, timeoutSeconds = 60): Promise<CommandResult> {
    const mark = `XENO${++this.#commands}`;
    const begin = performance.now();
    this.session.clear();
    // Marks are joined from two words, so that the echo of what is typed does not look like them.
    const quoted = `'${command.replaceAll("'", "'\\''")}'`;
    await this.session.type(`echo ${mark}""_BEGIN; eval ${quoted}; echo ${mark}""_STATUS=$?\n`);
    const end = new RegExp(`${mark}_BEGIN\\r?\\n(.*?)${mark}_STATUS=(\\d+)\\r?\\n`, "s");
    const [, output, status] = end.exec(await this.session.until(end, timeoutSeconds))!;
    const seconds = (performance.now() - begin) / 1000;
    return { output: output!.replaceAll("\r", "").replace(/\n$/, ""), status: Number(status), seconds };
  }

  /** Has the guest power off. */
  async powerOff(): Promise<ExitReport> {
    await this.session.type("poweroff -f\n");
    return this.session.exited;
  }

  destroy(): Promise<void> {
    return this.session.destroy();
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
