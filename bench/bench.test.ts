/** The arithmetic and the picture; nothing is measured here. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { LOGIN_PROMPT } from "./login.ts";
import { domainOf, qemuArgs } from "./machines.ts";
import { plotRatios } from "./plot.ts";
import { describeSummary, geometricMean, type Measurements, median, type Row, summarise } from "./summary.ts";
import { within } from "./within.ts";
import { ALL_ROWS, chooseWorkloads, LOGIN, MEMORY, wants } from "./workloads.ts";

const none = { tcg: [], ours: [] };
const row = (id: string, unit: string, tcg: number[], ours: number[], failures: string[] = []): Row => ({
  id,
  title: `row <${id}>`,
  unit,
  values: { tcg, ours },
  cpuSeconds: unit === "s" ? { tcg, ours } : none,
  failures,
});

const MEASURED: Measurements = {
  date: "2026-01-02T03:04:05.000Z",
  host: { cpu: "Some CPU", cpus: 2, node: "v26", system: "Linux 6" },
  load: [0, 1],
  kernel: "6.1",
  machines: { tcg: "QEMU", ours: "us" },
  repetitions: 3,
  rows: [
    row("time", "s", [1, 3, 2], [4, 4, 100]),
    row("rate", "kB/s", [10, 20], [30]),
    row("broken", "s", [1], [], ["ours: died"]),
  ],
  clocks: {
    tcg: [{ guestSeconds: 10, hostSeconds: 10 }],
    ours: [
      { guestSeconds: 9.9, hostSeconds: 10 },
      { guestSeconds: 0.002, hostSeconds: 0.001 },
    ],
  },
  memory: [
    { vcpus: 1, peakBytes: 300 << 20, guestBytes: 100 << 20 },
    { vcpus: 2, peakBytes: 350 << 20, guestBytes: 100 << 20 },
    { vcpus: 1, peakBytes: 290 << 20, guestBytes: 100 << 20 },
  ],
};

describe("figures", () => {
  test("medians are the middle, or the mean of both middles", () => {
    assert.equal(median([]), undefined);
    assert.equal(median([5, 1, 3]), 3);
    assert.equal(median([4, 1, 3, 2]), 2.5);
  });

  test("twice as fast and twice as slow are as fast on the whole", () => {
    assert.equal(geometricMean([2, 0.5]), 1);
    assert.equal(geometricMean([]), undefined);
  });

  test("ratios tell times from rates, and rows that failed have none", () => {
    const { ratios, clockError, overheadBytes, geometricMean: mean } = summarise(MEASURED);
    assert.deepEqual(
      ratios.map(({ ratio }) => ratio),
      [2, 0.5, undefined],
    );
    assert.deepEqual(
      ratios.map(({ cpuRatio }) => cpuRatio),
      [2, undefined, undefined],
    );
    assert.equal(mean, 1);
    assert.equal(clockError.tcg, 0);
    assert.ok(Math.abs(clockError.ours! - 0.01) < 1e-9);
    assert.deepEqual(overheadBytes, { 1: 200 << 20, 2: 250 << 20 });
  });

  test("the table shows medians, ratios and failures", () => {
    const text = describeSummary(MEASURED, summarise(MEASURED));
    assert.match(text, /row <time> +2\.00 s +4\.00 s +2\.00 × +0\.50 ×/);
    assert.match(text, /FAILED row <broken>: ours: died/);
    assert.match(text, /beyond what the guest touched: 200 MiB with 1 vcpu, 250 MiB with 2 vcpus\n/);
  });
});

test("the picture has a bar for each ratio and the mean, and is XML", () => {
  const svg = plotRatios(summarise(MEASURED), MEASURED);
  assert.equal(svg.match(/<rect/g)?.length, 3);
  assert.match(svg, /row &lt;time&gt;/);
  assert.doesNotMatch(svg, /NaN|undefined/);
});

describe("choice of rows", () => {
  test("the short suite needs one guest without packages", () => {
    const [set, ...more] = chooseWorkloads(undefined);
    assert.deepEqual(more, []);
    assert.deepEqual(
      [set!.packages, set!.boot, set!.workloads.map(({ id }) => id)],
      [[], true, ["sha256", "ash", "fork", "gzip"]],
    );
  });

  test("rows with the same packages share a guest", () => {
    const sets = chooseWorkloads(["openssl-aes", "xz", "openssl-sha256"]);
    assert.deepEqual(
      sets.map(({ boot, workloads }) => [boot, workloads.map(({ id }) => id)]),
      [
        [false, ["openssl-sha256", "openssl-aes"]],
        [false, ["xz"]],
      ],
    );
  });

  test("the boot to a login and the memory have guests of their own, in the short suite too", () => {
    assert.deepEqual(chooseWorkloads(["login", "memory"]), []);
    for (const what of [LOGIN, MEMORY]) {
      const answers = [undefined, ["boot", what.id], ["boot"], ALL_ROWS].map((only) => wants(what, only));
      assert.deepEqual(answers, [true, true, false, true]);
    }
  });

  test("an unknown row is named", () => {
    assert.throws(
      () => chooseWorkloads(["boot", "quake"]),
      /no row is called quake; there are boot, login, memory, sha256/,
    );
  });
});

describe("a boot to the login", () => {
  const kernel = { release: "6.1", bzImage: "vmlinuz", vmlinux: "vmlinux" };
  const plain = { kernel, initramfs: "ramdisk", memoryMib: 512, network: false };
  const system = { ...plain, disk: "login.img", diskIsRoot: true };
  const appended = (args: readonly string[]): string => args[args.indexOf("-append") + 1]!;

  test("gives both machines the same memory, disk and command line but for the disk's name", () => {
    const qemu = qemuArgs(system, "some", "tsc=reliable");
    const ours = domainOf(system);
    assert.equal(qemu[qemu.indexOf("-m") + 1], String(ours.memoryMib));
    assert.equal(qemu[qemu.indexOf("-smp") + 1], String(ours.vcpus));
    assert.ok(qemu.includes("if=none,id=disk,format=raw,file=login.img"));
    assert.deepEqual(
      ours.disks?.map(({ target, vdev, format, readOnly }) => [target, vdev, format, readOnly]),
      [["login.img", "xvda", "raw", false]],
    );
    assert.match(ours.cmdline, /^console=hvc0 root=\/dev\/xvda ro /);
    assert.equal(appended(qemu), `${ours.cmdline.replace("xvda", "vda")} tsc=reliable`);
  });

  test("has its console at QEMU's hvc0, commands at its serial line", () => {
    const consoleOf = (args: readonly string[]) => args.filter((arg) => /^-serial$|^virtconsole/.test(arg));
    assert.deepEqual(consoleOf(qemuArgs(system, "some", "")), ["virtconsole,chardev=console"]);
    assert.deepEqual(consoleOf(qemuArgs(plain, "some", "")), ["-serial"]);
    assert.match(appended(qemuArgs(plain, "some", "")), /^console=ttyS0 quiet /);
    assert.match(domainOf(plain).cmdline, /^console=hvc0 quiet /);
  });

  test("ends with the prompt of getty, whether or not it lets root in", () => {
    assert.match("\r\nDebian GNU/Linux 12 debian hvc0\r\n\r\ndebian login: root (automatic login)", LOGIN_PROMPT);
    assert.match("debian login: ", LOGIN_PROMPT);
    assert.doesNotMatch("Last login: Mon Nov 30 00:00:00 UTC 2026 on hvc0", LOGIN_PROMPT);
  });
});

describe("waiting", () => {
  test("what does not come is an error that names it", async () => {
    await assert.rejects(within(0.01, "a guest", new Promise(() => {})), /^Error: a guest: not within 0.01 s$/);
  });

  test("what comes is handed on, and what fails too", async () => {
    assert.equal(await within(10, "a guest", Promise.resolve(7)), 7);
    await assert.rejects(within(10, "a guest", Promise.reject(new Error("it crashed"))), /^Error: it crashed$/);
  });
});
