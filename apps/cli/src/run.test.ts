/** `xeno run`, from the outside: with small guests, each of which does one thing. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { haltGuest, helloGuest, ShutdownReason, shutdownGuest, spinGuest, tripleFaultGuest } from "@xenoserver/testkit";
import { signalAfter, xeno } from "./test-process.ts";

let folder: string;
const file = (name: string): string => join(folder, name);
const GUESTS = {
  hello: helloGuest(),
  spin: spinGuest(),
  halt: haltGuest(),
  "triple-fault": tripleFaultGuest(),
  poweroff: shutdownGuest(ShutdownReason.poweroff),
  reboot: shutdownGuest(ShutdownReason.reboot),
  crash: shutdownGuest(ShutdownReason.crash),
};

before(() => {
  folder = mkdtempSync(join(tmpdir(), "xeno-run-"));
  for (const [name, bytes] of Object.entries(GUESTS)) writeFileSync(file(name), bytes);
});
after(() => rmSync(folder, { recursive: true }));

const run = (guest: keyof typeof GUESTS, args: readonly string[] = [], options = {}) =>
  xeno(["run", `kernel=${file(guest)}`, "memory=32", ...args], options);

describe("endings", () => {
  test("power-off is status 0 and one line", async () => {
    const { status, stdout, stderr } = await run("poweroff");
    assert.deepEqual([status, stdout], [0, ""]);
    assert.match(stderr, /^xeno: domain powered off after \d+\.\d s\n$/);
  });

  test("the hypervisor's messages are shown when asked for", async () => {
    const { stderr } = await run("hello", ["-v"]);
    assert.match(stderr, /guest: hello from port 0xe9/);
    assert.match(stderr, /guest: hello from console_io/);
  });

  test("a crash is status 3, with its reason and registers", async () => {
    const { status, stderr } = await run("crash");
    assert.equal(status, 3);
    assert.match(stderr, /^xeno: domain crashed after .*\nvcpu0: the guest reported a crash\nrax [0-9a-f]{16}/);
  });

  test("so is a triple fault", async () => {
    const { status, stderr } = await run("triple-fault");
    assert.equal(status, 3);
    assert.match(stderr, /vcpu0: triple fault\nrax [0-9a-f]{16}/);
  });

  test("a halt that nothing can end is a power-off", async () => assert.equal((await run("halt")).status, 0));

  test("a reboot starts the domain again, or not, as the configuration says", async () => {
    const once = await run("reboot", ["on_reboot=destroy"]);
    assert.equal(once.status, 0);
    assert.match(once.stderr, /domain asked for a reboot/);
    const again = await run("reboot", ["--timeout=6", "--json"]);
    assert.equal(again.status, 124);
    assert.ok(JSON.parse(again.stdout).restarts > 0);
  });

  test("a guest that spins with interrupts off ends at the time limit", async () => {
    const { status, stderr } = await run("spin", ["--timeout=4"]);
    assert.equal(status, 124);
    assert.match(
      stderr,
      /domain was still running at the time limit .*\nvcpu0: was running when it was destroyed\nrax /,
    );
  });

  for (const [signal, expected] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    test(`${signal} ends it with status ${expected}`, async () => {
      const { status, stderr } = await run("spin", ["-v"], { onOutput: signalAfter("spinning", signal) });
      assert.equal(status, expected);
      assert.match(stderr, /domain was interrupted/);
    });
  }
});

describe("report", () => {
  test("--json prints one line with times, instructions, exits and memory", async () => {
    const { stdout } = await run("poweroff", ["--json", "name=x", "uuid=12345678-1234-1234-1234-123456789abc"]);
    const report = JSON.parse(stdout);
    assert.equal(stdout.trim().split("\n").length, 1);
    assert.deepEqual([report.name, report.uuid], ["x", "12345678-1234-1234-1234-123456789abc"]);
    assert.deepEqual([report.reason, report.bootMs, report.restarts], ["poweroff", null, 0]);
    assert.ok(report.runMs > 0 && report.instructions > 0 && report.peakMemoryBytes > 0);
    assert.ok(report.exits.hypercall >= 1);
  });

  test("-n says what would be built and builds nothing", async () => {
    const { status, stdout } = await run("spin", ["-n", "vcpus=2"]);
    assert.equal(status, 0);
    assert.match(
      stdout,
      /^name = "domain"\n.*kernel = ".*spin" {2}# elf, 64-bit ELF, PVH entry 0x[0-9a-f]+\n.*memory = 32\nvcpus = 2\n/s,
    );
  });
});

describe("configuration", () => {
  test("from a file, with settings on the command line over it", async () => {
    writeFileSync(file("g.cfg"), `name = "g"\nkernel = "${file("poweroff")}"\nmemory = 1\n`);
    const { status, stderr } = await xeno(["run", file("g.cfg"), "memory=32"]);
    assert.equal(status, 0, stderr);
    assert.match(stderr, /xeno: g powered off/);
  });

  const refused: [what: string, args: string[], message: RegExp][] = [
    ["a file that is not there", ["/nowhere.cfg"], /^xeno: \/nowhere\.cfg: no such file\n$/],
    ["a kernel that is not there", ["kernel=/nowhere"], /^xeno: kernel \/nowhere: no such file\n$/],
    ["a kernel that is none", ["kernel=/etc/passwd"], /expected an ELF file or a bzImage/],
    ["a folder as kernel", ["kernel=/etc"], /kernel \/etc: is no regular file/],
    ["a misspelt key", ["kernel=/x", "memroy=1"], /memroy is no key of xl\.cfg, did you mean memory\?/],
    ["nothing", [], /nothing to run, expected FILE\.cfg, kernel=PATH or --image NAME/],
    ["two files", ["a", "b"], /files are a, b, expected one/],
    ["an unknown option", ["--what"], /unknown option '--what'/],
    ["a time that is none", ["kernel=/x", "--timeout=soon"], /Expected a number of seconds/],
  ];
  for (const [what, args, message] of refused) {
    test(`${what} is status 2 and a sentence`, async () => {
      const { status, stderr } = await xeno(["run", ...args]);
      assert.equal(status, 2, stderr);
      assert.match(stderr, message);
    });
  }

  test("a domain that does not fit is refused before the start", async () => {
    writeFileSync(file("large"), Buffer.alloc(40 << 20));
    const large = await run("spin", [`ramdisk=${file("large")}`]);
    assert.deepEqual(
      [large.status, large.stderr],
      [2, "xeno: ramdisk of 40 MiB: expected less than the 32 MiB of memory\n"],
    );
    const long = await run("spin", [`extra=${"x".repeat(3000)}`]);
    assert.deepEqual(
      [long.status, long.stderr],
      [
        2,
        "xeno: command line: the kernel's command line is 3000 bytes, expected ≤ 2047\n".replace("≤", "\xe2\x89\xa4"),
      ],
    );
  });
});

describe("console", () => {
  test("--console=FILE keeps standard output free", async () => {
    const { status, stdout } = await run("hello", [`--console=${file("log")}`]);
    assert.deepEqual([status, stdout], [0, ""]);
    assert.equal(readFileSync(file("log"), "utf8"), "");
  });

  test("a console file that cannot be written is a sentence, and the domain runs on", async () => {
    const { status, stderr } = await run("poweroff", ["--console=/nowhere/log"]);
    assert.equal(status, 0);
    assert.match(stderr, /console output is lost/);
  });
});
