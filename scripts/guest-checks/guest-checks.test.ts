/** The short share of the checks, in one guest. Skipped where no source of Debian packages can be reached. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { PackageError } from "@xenoserver/toolstack/guest/index.ts";
import type { GuestShell } from "@xenoserver/toolstack/testing/guest-shell.ts";
import { unknownWarnings } from "./boot-log.ts";
import { OPENSSL_STEPS } from "./checks.ts";
import { Guests } from "./guest.ts";
import { runStep } from "./steps.ts";

const guests = await Guests.open(() => {}).catch((error: unknown) => {
  if (error instanceof PackageError) return error.message;
  throw error;
});

describe("a stock kernel's user space", { skip: typeof guests === "string" && guests }, () => {
  let guest: GuestShell;
  before(async () => {
    guest = await (guests as Guests).boot({ packages: ["openssl"], memoryMib: 512 }, 2);
  });
  after(() => guest?.destroy());

  test("the boot log has no warning that the real Xen does not cause", async () => {
    assert.deepEqual(unknownWarnings((await guest.run("dmesg -r")).output), []);
  });

  test("sleep sleeps by the guest's clocks", async () => {
    const { output } = await guest.run("a=$EPOCHREALTIME; sleep 2; b=$EPOCHREALTIME; echo $a $b");
    const [from, to] = output.split(" ").map(Number);
    assert.ok(to! - from! >= 2, output);
  });

  test("32 processes at once give the right sums", async () => {
    const one = "(i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; [ $i = 300 ] && echo right)";
    const { output } = await guest.run(`for n in $(seq 32); do ${one} & done | sort | uniq -c; wait`);
    assert.match(output, /^ *32 right$/m);
  });

  for (const step of OPENSSL_STEPS) {
    test(step.command, async () => assert.equal(await runStep(guest, step), undefined));
  }
});
