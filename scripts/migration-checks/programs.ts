import { execFile } from "node:child_process";

/** Runs a program to its end, while this process goes on serving. @throws Error  with what it said, if that was no success */
export function run(command: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(command[0]!, command.slice(1), { env: { ...process.env, ...env } }, (error, stdout, stderr) => {
      if (error === null) resolve();
      else reject(new Error(`${command.join(" ")}: ${stderr || stdout || error.message}`));
    });
  });
}
