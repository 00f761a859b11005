/** QEMU's tools as the judges of our images. */
import { execFile, spawnSync } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Why there is no judge; undefined if there is one. For the `skip` of tests. */
export const noQemu: string | undefined =
  spawnSync("qemu-img", ["--version"]).error === undefined && spawnSync("qemu-io", ["--version"]).error === undefined
    ? undefined
    : "qemu-img is not installed; on Debian: apt-get install qemu-utils";

/** @throws Error  the program failed; the message holds what it said */
export async function qemuImg(...args: readonly string[]): Promise<string> {
  const { stdout } = await run("qemu-img", args, { maxBuffer: 1 << 26 });
  return stdout;
}

/** Runs commands such as "write -P 7 0 64k" on an image. */
export async function qemuIo(path: string, format: string, commands: readonly string[]): Promise<string> {
  const args = ["-f", format, path, ...commands.flatMap((command) => ["-c", command])];
  const { stdout } = await run("qemu-io", args, { maxBuffer: 1 << 26 });
  if (/failed|error/i.test(stdout)) throw new Error(stdout);
  return stdout;
}
