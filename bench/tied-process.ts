/** Processes that end with this one, however that ends. */
import { spawnSync } from "node:child_process";

let prefix: readonly string[] | undefined;

/** util-linux' setpriv has the kernel send a signal when the parent is gone, and becomes the program. */
function tie(): readonly string[] {
  if (prefix === undefined) {
    const { stdout, error } = spawnSync("setpriv", ["--help"], { encoding: "utf8" });
    const knows = error === undefined && stdout.includes("--pdeathsig");
    prefix = knows ? ["setpriv", "--pdeathsig", "KILL", "--"] : [];
  }
  return prefix;
}

/**
 * What to spawn for a program that is to be killed when this process is gone.
 * @returns the program itself where there is no such setpriv: then it goes on
 */
export function tied(program: string, args: readonly string[]): readonly [program: string, args: readonly string[]] {
  const [first, ...rest] = [...tie(), program, ...args];
  return [first!, rest];
}
