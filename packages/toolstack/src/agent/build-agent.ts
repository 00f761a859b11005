/**
 * Makes agent-x86_64.elf of agent.c, for those who change it; guests get the committed program, as users have no compiler.
 * A test builds it again and compares, where the compiler is the one that the program names.
 */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { AGENT_PROGRAM } from "./program.ts";

const run = promisify(execFile);

export const AGENT_SOURCE = fileURLToPath(new URL("agent.c", import.meta.url));

const FLAGS =
  `-Os -static -nostdlib -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fno-pie -no-pie
  -fno-tree-loop-distribute-patterns -fcf-protection=none -Wall -Wextra -Werror -s
  -Wl,--build-id=none -Wl,-z,norelro -Wl,-z,noseparate-code`.split(/\s+/);

/** @throws Error  with what the compiler says */
export async function buildAgent(target: string): Promise<void> {
  await run("gcc", [...FLAGS, "-o", target, AGENT_SOURCE]);
}

/** The compiler that a program says it was made by. */
export const compilerOf = (program: Uint8Array): string =>
  /GCC: \([^)]*\) [\d.]+/.exec(Buffer.from(program).toString("latin1"))?.[0] ?? "none";

if (import.meta.main) {
  await buildAgent(AGENT_PROGRAM);
  process.stdout.write(`${AGENT_PROGRAM}\n`);
}
