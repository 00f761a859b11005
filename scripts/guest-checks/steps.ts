/** Runs the steps of a check in its guest. */
import type { GuestShell } from "@xenoserver/toolstack/testing/guest-shell.ts";
import type { Check, Step } from "./checks.ts";

export interface Failure {
  readonly command: string;
  readonly problem: string;
}

const DEFAULT_TIMEOUT_SECONDS = 120;
const TOLD_CHARACTERS = 1500;

/** @returns the steps of a check, those that only the guest can name among them */
export async function stepsOf(check: Check, guest: GuestShell): Promise<readonly Step[]> {
  if (check.discover === undefined) return check.steps;
  const { output } = await guest.run(check.discover.command, DEFAULT_TIMEOUT_SECONDS);
  const found = check.discover.steps(output);
  if (found.length === 0)
    throw new Error(`${check.discover.command} names nothing: ${output.slice(0, TOLD_CHARACTERS)}`);
  return [...found, ...check.steps];
}

/**
 * @returns undefined if the step says what it should
 * @throws  Error  the guest ended, or the step took too long: nothing more can be asked of this guest
 */
export async function runStep(guest: GuestShell, step: Step): Promise<Failure | undefined> {
  const { command, expect, timeoutSeconds = DEFAULT_TIMEOUT_SECONDS } = step;
  const { output, status } = await guest.run(command, timeoutSeconds);
  const told = JSON.stringify(output.slice(-TOLD_CHARACTERS));
  if (status !== 0) return { command, problem: `status ${status}, output ${told}` };
  const isRight = expect === undefined || (typeof expect === "string" ? output.includes(expect) : expect.test(output));
  return isRight ? undefined : { command, problem: `output ${told}, expected ${expect}` };
}
