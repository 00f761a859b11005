/** Small kernels in real domains: each ends for the right reason and leaves nothing behind. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import {
  absentMemoryGuest,
  garbageGuest,
  HELLO_HYPERCALL_TEXT,
  HELLO_PORT_TEXT,
  haltGuest,
  helloGuest,
  hypercallFuzzerGuest,
  portScanGuest,
  ShutdownReason,
  shutdownGuest,
  spinGuest,
  tripleFaultGuest,
} from "@xenoserver/testkit";
import { openResources, runTiny, type TinyRun } from "../testing/tiny-domain.ts";

const MODES = [32, 64] as const;
const IS_LONG = process.env["XENO_LONG_TESTS"] === "1";
const FUZZ_CALLS = IS_LONG ? 1_000_000 : 200_000;
const FUZZ_SEEDS = IS_LONG ? [1, 2, 3] : [1];
const GARBAGE_ROUNDS = IS_LONG ? 2000 : 200;
/** Each sub-operation that is not there is logged once, so a guest cannot fill a log. */
const MOST_LOG_LINES = 300;

const said = ({ log }: TinyRun, text: string): boolean => log.some((line) => line.includes(`guest: ${text.trimEnd()}`));

/** What the hypervisor logged of itself; what a guest prints on its console, random hypercalls do too, is the guest's. */
const ownLines = ({ log }: TinyRun): string[] => log.filter((line) => !line.includes("guest: "));

let before: Readonly<Record<string, number>>;
beforeEach(() => {
  before = openResources();
});
afterEach(async () => {
  // A worker's last handles are closed in the turn of the event loop after its exit.
  for (let turn = 0; turn < 100 && !isSubset(openResources(), before); turn++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.ok(isSubset(openResources(), before), `${JSON.stringify(openResources())} after ${JSON.stringify(before)}`);
});

function isSubset(now: Readonly<Record<string, number>>, then: Readonly<Record<string, number>>): boolean {
  return Object.entries(now).every(([name, count]) => count <= (then[name] ?? 0));
}

for (const mode of MODES) {
  describe(`${mode}-bit`, () => {
    test("hello is heard from the debug port and from console_io", async () => {
      const run = await runTiny(helloGuest(mode));
      assert.equal(run.report.reason, "poweroff");
      assert.equal(run.report.detail, undefined);
      assert.ok(said(run, HELLO_PORT_TEXT) && said(run, HELLO_HYPERCALL_TEXT), run.log.join("\n"));
    });

    test("a triple fault is a crash with the registers", async () => {
      const { report } = await runTiny(tripleFaultGuest(mode));
      assert.equal(report.reason, "crash");
      assert.match(
        report.detail!,
        /^dom1 vcpu0: triple fault\nrax [0-9a-f]{16} .*rip [0-9a-f]{16} .*cr0 [0-9a-f]{16}/s,
      );
    });

    test("a guest that spins with interrupts off is destroyed", async () => {
      const { report } = await runTiny(spinGuest(mode), { destroyAt: "spinning" });
      assert.equal(report.reason, "destroyed");
    });

    test("a guest that halts with interrupts off has powered off", async () => {
      assert.equal((await runTiny(haltGuest(mode))).report.reason, "poweroff");
    });

    test("ports and memory that are not there harm nobody", async () => {
      const ports = await runTiny(portScanGuest(mode));
      assert.deepEqual([ports.report.reason, said(ports, "ports scanned")], ["poweroff", true]);
      const memory = await runTiny(absentMemoryGuest(mode));
      assert.deepEqual([memory.report.reason, said(memory, "absent memory touched")], ["poweroff", true]);
    });

    for (const seed of FUZZ_SEEDS) {
      test(`${FUZZ_CALLS} random hypercalls end in the guest's own power-off (seed ${seed})`, async () => {
        const run = await runTiny(hypercallFuzzerGuest({ seed, calls: FUZZ_CALLS, mode }));
        assert.equal(run.report.reason, "poweroff", run.report.detail ?? run.log.join("\n"));
        assert.ok(said(run, "fuzzed"), run.log.join("\n"));
        assert.ok(run.report.exits["hypercall"]! >= FUZZ_CALLS);
        assert.ok(ownLines(run).length < MOST_LOG_LINES, ownLines(run).join("\n"));
      });
    }

    test("garbage in shared info and in the rings of console and xenstore", async () => {
      const run = await runTiny(garbageGuest({ seed: 1, rounds: GARBAGE_ROUNDS, mode }));
      assert.equal(run.report.reason, "poweroff", run.report.detail ?? run.log.join("\n"));
      assert.ok(said(run, "littered"), run.log.join("\n"));
      assert.ok(ownLines(run).length < MOST_LOG_LINES, ownLines(run).join("\n"));
    });
  });
}

describe("shutdown reasons", () => {
  const reasons = [
    [ShutdownReason.poweroff, "poweroff"],
    [ShutdownReason.reboot, "reboot"],
    [ShutdownReason.suspend, "suspend"],
    [ShutdownReason.crash, "crash"],
    [ShutdownReason.watchdog, "watchdog"],
  ] as const;
  for (const [number, name] of reasons) {
    test(`${number} is ${name}`, async () => assert.equal((await runTiny(shutdownGuest(number))).report.reason, name));
  }
});

describe("several domains", () => {
  test("one after another in a process", async () => {
    for (let n = 0; n < 3; n++) assert.equal((await runTiny(helloGuest())).report.reason, "poweroff");
  });

  test("with vcpus that are never started", async () => {
    const { report } = await runTiny(spinGuest(), { vcpus: 4, destroyAt: "spinning" });
    assert.equal(report.reason, "destroyed");
  });

  test("destroyed before they have run", async () => {
    const { report } = await runTiny(spinGuest(), { destroyAt: "" });
    assert.equal(report.reason, "destroyed");
  });
});
