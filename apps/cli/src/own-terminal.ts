/** This process's terminal, lent to a program in a guest: every key goes there, Ctrl-C among them. */
import { spawnSync } from "node:child_process";
import type { TerminalSize } from "@xenoserver/toolstack/agent/index.ts";

/**
 * Every key as it is typed, every byte as it is printed. Node leaves the terminal to put a carriage return before each line feed,
 * by which a full-screen program of the guest only wants to go down.
 */
export function setRaw(stdin: NodeJS.ReadStream): void {
  stdin.setRawMode(true);
  // Undone with the rest by setRawMode(false), which restores what was found first. Without stty, columns may go wrong.
  spawnSync("stty", ["-opost"], { stdio: ["inherit", "ignore", "ignore"] });
}

export interface OwnTerminal {
  /** What a program there has to know of it. */
  readonly env: Readonly<Record<string, string>>;
  size(): TerminalSize;
  /** Called whenever it has another size. */
  onResize(take: (size: TerminalSize) => void): void;
  /** Gives it back as it was. */
  restore(): void;
}

/** Takes it over. Both standard input and output have to be terminals. */
export function ownTerminal(): OwnTerminal {
  const { stdin, stdout } = process;
  const size = (): TerminalSize => ({ columns: stdout.columns ?? 80, rows: stdout.rows ?? 24 });
  let changed = (): void => {};
  const restore = (): void => {
    stdout.off("resize", changed);
    if (!stdin.destroyed) stdin.setRawMode(false);
    process.off("exit", restore);
  };
  setRaw(stdin);
  process.on("exit", restore);
  return {
    env: { TERM: process.env["TERM"] ?? "linux" },
    size,
    onResize: (take) => {
      changed = () => take(size());
      stdout.on("resize", changed);
    },
    restore,
  };
}
