/** A command in a guest, with this process's own streams. */

import { AgentError } from "@xenoserver/toolstack/agent/index.ts";
import type { RunningDomain } from "@xenoserver/toolstack/domain/index.ts";
import { ExitError, ExitStatus } from "./exit-status.ts";

export interface SessionOptions {
  /** A line for the guest's shell. */
  readonly command: string;
  /** How long the guest may take to start and answer. */
  readonly readyMs: number;
  /** Whether the guest is to shut down in order behind it, so that its disk is at rest. */
  readonly powerOff: boolean;
}

const POWER_OFF_MS = 60_000;

/** @returns the command's status. @throws ExitError  the guest has no agent, or cannot start the command */
export async function execSession(domain: RunningDomain, options: SessionOptions): Promise<number> {
  try {
    const agent = await domain.agent();
    await agent.ready(options.readyMs);
    const guest = agent.start({ args: ["sh", "-c", options.command] });
    if (process.stdin.isTTY) guest.stdin.end();
    else process.stdin.pipe(guest.stdin);
    guest.stdout.pipe(process.stdout, { end: false });
    guest.stderr.pipe(process.stderr, { end: false });
    const { status } = await guest.exited;
    process.stdin.unpipe(guest.stdin);
    process.stdin.destroy();
    if (options.powerOff) await powerOff(domain);
    return status;
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    throw new ExitError(ExitStatus.failed, `exec: ${error.message}`);
  }
}

/** Asks the guest, and waits a while for it to do so. */
async function powerOff(domain: RunningDomain): Promise<void> {
  const agent = await domain.agent();
  await Promise.race([agent.powerOff().catch(() => {}), domain.exited]);
  const timer = Promise.withResolvers<void>();
  const handle = setTimeout(timer.resolve, POWER_OFF_MS);
  await Promise.race([domain.exited, timer.promise]);
  clearTimeout(handle);
}
