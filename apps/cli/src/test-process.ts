/** Running the command as a user does: as a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export const XENO = fileURLToPath(new URL("../bin/xeno.mjs", import.meta.url));

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface XenoOptions {
  /** Set in addition to this process's own variables. */
  readonly env?: Readonly<Record<string, string>>;
  /** Typed at standard input, which is then closed. */
  readonly input?: string;
  /** Called with the process and everything it has written so far, whenever it writes. */
  readonly onOutput?: (child: ChildProcess, soFar: string) => void;
}

export function xeno(args: readonly string[], options: XenoOptions = {}): Promise<Outcome> {
  return runProcess(process.execPath, [XENO, ...args], options);
}

export function runProcess(command: string, args: readonly string[], options: XenoOptions = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: "pipe", env: { ...process.env, ...options.env } });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (bytes: Buffer) => {
      stdout += bytes.toString("latin1");
      options.onOutput?.(child, stdout + stderr);
    });
    child.stderr.on("data", (bytes: Buffer) => {
      stderr += bytes.toString("latin1");
      options.onOutput?.(child, stdout + stderr);
    });
    child.stdin.on("error", () => {});
    child.stdin.end(options.input ?? "");
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, stdout, stderr }));
  });
}

/** An `onOutput` that sends a signal once, when a text has appeared. */
export function signalAfter(text: string, signal: NodeJS.Signals): NonNullable<XenoOptions["onOutput"]> {
  let sent = false;
  return (child, soFar) => {
    if (sent || !soFar.includes(text)) return;
    sent = true;
    child.kill(signal);
  };
}
