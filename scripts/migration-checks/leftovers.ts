/** Folders of checks, and what is left of checks that were killed. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findProcesses } from "@xenoserver/agent/spawn.ts";
import { FarLink } from "./far-link.ts";
import { CheckServers } from "./servers.ts";

const prefixOf = (checks: string): string => `xeno-${checks}-`;

/**
 * @param checks  what they are called
 * @returns a folder named after this process, for servers
 */
const makeFolder = (checks: string): string => mkdtempSync(join(tmpdir(), `${prefixOf(checks)}${process.pid}-`));

const removeFolder = (folder: string): void => rmSync(folder, { recursive: true, force: true });

/**
 * Runs checks in a folder of their own, behind those that were killed, and ends this process.
 * @param domains  what theirs are called
 * @param run      gives whether all is well; an error is told, and is not
 */
export async function runChecks(
  checks: string,
  domains: readonly string[],
  run: (folder: string) => Promise<boolean>,
): Promise<never> {
  await clearLeftovers(checks, domains);
  const folder = makeFolder(checks);
  let isGood = false;
  try {
    isGood = await run(folder);
  } catch (error) {
    console.error((error as Error).message);
  } finally {
    removeFolder(folder);
  }
  process.exit(isGood ? 0 : 1);
}

/** Ends the domains and servers of checks whose process is gone, and removes their folders. */
async function clearLeftovers(checks: string, domains: readonly string[]): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    const pid = Number(new RegExp(`^${prefixOf(checks)}(\\d+)-`).exec(name)?.[1]);
    if (!(pid > 0) || isAlive(pid)) continue;
    const folder = join(tmpdir(), name);
    // Some may have been halted.
    for (const [served, domain] of findProcesses())
      if (served.startsWith(`${folder}/`)) process.kill(domain, "SIGCONT");
    const { left, right } = CheckServers.leftBy(folder);
    for (const server of [left, right]) {
      if (!existsSync(server.home)) continue;
      // Its line is gone, and the address that it was reached by.
      rmSync(join(server.home, "tls", "listen"), { force: true });
      // Its agent may have been killed while its domain runs on: another one finds that again.
      await server.xeno("list");
      await server.stop(...domains);
    }
    FarLink.removeOf(pid);
    removeFolder(folder);
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
