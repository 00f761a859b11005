/**
 * Programs that check themselves, in a stock kernel on our engine: what no one here wrote judges the engine.
 *
 *   npm run guest-checks                         all of it; the better part of an hour
 *   npm run guest-checks -- --only clock,perl    these
 *   npm run guest-checks -- --engine interpreter
 *   npm run guest-checks -- --step test_math     only steps whose command holds this text
 */
import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import type { EngineChoice } from "@xenoserver/toolstack/domain/index.ts";
import { unknownWarnings } from "./boot-log.ts";
import { CHECKS, type Check } from "./checks.ts";
import { clockErrors, compareClocks, idleCost } from "./clocks.ts";
import { Guests } from "./guest.ts";
import { runStep, stepsOf } from "./steps.ts";

const CLOCK_SECONDS = 60;
const CLOCK_TOLERANCE = 0.01;
const DATE_TOLERANCE_SECONDS = 1;
const IDLE_SECONDS = 5;
/** Console, xenstore and shell have their last words after the prompt. */
const SETTLE_SECONDS = 3;
const PLAIN = { packages: [], memoryMib: 256 };

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    engine: { type: "string", default: "translator" },
    step: { type: "string", default: "" },
  },
});
const engine: EngineChoice = values.engine === "interpreter" ? { translate: "never" } : {};
const ids = ["boot", "clock", ...CHECKS.map(({ id }) => id)];
const only = values.only?.split(",") ?? ids;
for (const id of only) {
  if (ids.includes(id)) continue;
  console.error(`no check is called ${id}; there are ${ids.join(", ")}`);
  process.exit(2);
}

let failures = 0;
function tell(ok: boolean, what: string, problem?: string): void {
  if (!ok) failures++;
  console.log(`${ok ? "ok    " : "FAILED"} ${what}${problem === undefined ? "" : `\n         ${problem}`}`);
}

async function checkBoot(guests: Guests): Promise<void> {
  for (const vcpus of [1, 2]) {
    const guest = await guests.boot(PLAIN, vcpus, engine);
    const { output } = await guest.run("dmesg -r");
    const unknown = unknownWarnings(output);
    const took = `init after ${guest.bootSeconds.toFixed(1)} s`;
    tell(
      unknown.length === 0,
      `boot log with ${vcpus} vcpu${vcpus > 1 ? "s" : ""}, ${took}`,
      unknown[0] && unknown.join("\n"),
    );
    await guest.powerOff();
  }
}

async function checkClocks(guests: Guests): Promise<void> {
  const guest = await guests.boot(PLAIN, 1, engine);
  const report = await compareClocks(guest, CLOCK_SECONDS);
  const errors = Object.entries(clockErrors(report));
  const told = errors.map(([clock, error]) => `${clock} ${(error * 100).toFixed(3)} %`).join(", ");
  const offset = report.dateOffsetSeconds;
  const ok =
    errors.every(([, error]) => Math.abs(error) < CLOCK_TOLERANCE) && Math.abs(offset) < DATE_TOLERANCE_SECONDS;
  const over = `over ${report.hostSeconds.toFixed(1)} s of the host's clock, in a busy guest`;
  tell(ok, `clocks: ${told} off ${over}; date is ${(offset * 1000).toFixed(0)} ms ahead`);
  await new Promise((resolve) => setTimeout(resolve, SETTLE_SECONDS * 1000));
  const cost = await idleCost(IDLE_SECONDS);
  console.log(`       at the prompt the process takes ${(cost * 100).toFixed(2)} % of a core (over ${IDLE_SECONDS} s)`);
  await guest.powerOff();
}

async function checkPrograms(guests: Guests, check: Check): Promise<void> {
  console.log(`\n${check.title}`);
  const boot = () => guests.boot(check, check.vcpus ?? 1, engine);
  let guest = await boot();
  const steps = (await stepsOf(check, guest)).filter(({ command }) => command.includes(values.step));
  for (const step of steps) {
    const begin = performance.now();
    try {
      const failure = await runStep(guest, step);
      const seconds = ((performance.now() - begin) / 1000).toFixed(1);
      tell(failure === undefined, `${step.command} (${seconds} s)`, failure?.problem);
    } catch (error) {
      tell(false, step.command, (error as Error).message);
      await guest.destroy();
      guest = await boot();
    }
  }
  await guest.powerOff();
}

const guests = await Guests.open((line) => console.error(line));
console.log(`Linux ${guests.release}, ${values.engine}, load ${loadavg()[0]!.toFixed(1)}`);
if (only.includes("boot")) await checkBoot(guests);
if (only.includes("clock")) await checkClocks(guests);
for (const check of CHECKS) if (only.includes(check.id)) await checkPrograms(guests, check);
console.log(failures === 0 ? "\nall right" : `\n${failures} failed`);
process.exit(failures === 0 ? 0 : 1);
