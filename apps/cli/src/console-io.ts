/** Where a domain's console goes to and comes from. */
import { createWriteStream } from "node:fs";
import type { Readable, Writable } from "node:stream";
import { setRaw } from "./own-terminal.ts";

/** Ctrl-], as xl and telnet use it. */
const LEAVE_KEY = 0x1d;
const LINE_END = 0x0a;

export interface ConsoleEvents {
  /** The user pressed Ctrl-] on a terminal. */
  onLeave(): void;
  /** Nobody reads the output any more. */
  onGone(): void;
  /** An input that is no terminal has come to its end; `inLine`: without a line end. */
  onInputEnd(inLine: boolean): void;
}

/** The user's end of a console. */
export interface ConsoleEnd {
  /** Shows bytes from the guest; a promise is settled when there is room for more. */
  write(bytes: Uint8Array): Promise<void> | undefined;
  /** Shows a line of ours between the guest's. */
  note(line: string): void;
  /**
   * Starts to hand what the user types to `sink`, one piece after the other as each is taken.
   */
  attach(sink: (bytes: Uint8Array) => Promise<void>, events: ConsoleEvents): void;
  /** Stops handing over, puts the terminal back as it was, and waits until all output is written. */
  close(): Promise<void>;
}

/** @param target  "stdio", "none", or a file's path, which is written anew */
export function openConsole(target: string): ConsoleEnd {
  if (target === "stdio") return new StdioConsole(process.stdin, process.stdout);
  return new OutputConsole(target === "none" ? undefined : createWriteStream(target));
}

class OutputConsole implements ConsoleEnd {
  readonly #stream: Writable | undefined;
  #failed: Error | undefined;

  constructor(stream: Writable | undefined) {
    this.#stream = stream;
    stream?.on("error", (error) => {
      if (this.#failed === undefined) process.stderr.write(`xeno: console output is lost: ${error.message}\n`);
      this.#failed = error;
    });
  }

  write(bytes: Uint8Array): Promise<void> | undefined {
    return this.#failed === undefined && this.#stream !== undefined ? writeTo(this.#stream, bytes) : undefined;
  }

  note(line: string): void {
    process.stderr.write(`${line}\n`);
  }

  attach(): void {}

  async close(): Promise<void> {
    const stream = this.#stream;
    if (stream !== undefined && this.#failed === undefined) await new Promise<void>((resolve) => stream.end(resolve));
  }
}

class StdioConsole implements ConsoleEnd {
  readonly #input: NodeJS.ReadStream;
  readonly #output: NodeJS.WriteStream;
  #listening = false;
  #outputGone = false;
  #onGone: () => void = () => {};
  readonly #restore = (): void => {
    if (this.#input.isTTY && this.#input.isRaw) this.#input.setRawMode(false);
  };

  constructor(input: NodeJS.ReadStream, output: NodeJS.WriteStream) {
    this.#input = input;
    this.#output = output;
    output.on("error", () => {
      this.#outputGone = true;
      this.#onGone();
    });
  }

  write(bytes: Uint8Array): Promise<void> | undefined {
    return this.#outputGone ? undefined : writeTo(this.#output, bytes);
  }

  note(line: string): void {
    process.stderr.write(this.#input.isRaw ? `${line.replaceAll("\n", "\r\n")}\r\n` : `${line}\n`);
  }

  attach(sink: (bytes: Uint8Array) => Promise<void>, events: ConsoleEvents): void {
    this.#listening = true;
    this.#onGone = () => events.onGone();
    if (this.#outputGone) events.onGone();
    if (this.#input.isTTY) {
      setRaw(this.#input);
      process.on("exit", this.#restore);
    }
    void this.#pump(this.#input, sink, events);
  }

  async #pump(input: Readable, sink: (bytes: Uint8Array) => Promise<void>, events: ConsoleEvents): Promise<void> {
    const interactive = this.#input.isTTY;
    let last = LINE_END;
    try {
      for await (const piece of input) {
        if (!this.#listening) return;
        const bytes = piece as Buffer;
        const leave = interactive ? bytes.indexOf(LEAVE_KEY) : -1;
        if (leave !== -1) return events.onLeave();
        await sink(bytes);
        last = bytes.at(-1) ?? last;
      }
      if (this.#listening && !interactive) events.onInputEnd(last !== LINE_END);
    } catch {
      // The terminal is gone or was closed by us; without input the domain runs on.
    }
  }

  async close(): Promise<void> {
    this.#listening = false;
    this.#restore();
    process.off("exit", this.#restore);
    this.#input.destroy();
    if (!this.#outputGone && this.#output.writableLength > 0) {
      await new Promise<void>((resolve) => this.#output.write("", () => resolve()));
    }
  }
}

/** @returns a promise if the stream is full, settled when it is not or has failed */
function writeTo(stream: Writable, bytes: Uint8Array): Promise<void> | undefined {
  if (stream.write(bytes)) return undefined;
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off("drain", done);
      stream.off("error", done);
      stream.off("close", done);
      resolve();
    };
    stream.on("drain", done).on("error", done).on("close", done);
  });
}
