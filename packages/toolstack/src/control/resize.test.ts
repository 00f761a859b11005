/** A Debian guest that is given memory and vcpus while it runs, and gives them back; and keeps what it has by then. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ConsoleReader } from "../testing/console-reader.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import { DomainProcess } from "../testing/domain-process.ts";
import type { ControlClient } from "./client.ts";
import type { DomainInfo, DomainSpec } from "./index.ts";

const MIB = 2 ** 20;
const guest = await DebianGuest.open();
const skip = typeof guest === "string" ? guest : false;
const CPU = "/sys/devices/system/cpu";
/** What a rule of udev does; the file of one that goes away stays for a moment. */
const bringUp = (cpu: number): string =>
  `until [ "$(cat ${CPU}/cpu${cpu}/online 2>&1)" = 1 ]; do (echo 1 > ${CPU}/cpu${cpu}/online) 2>/dev/null; sleep 0.1; done`;

/** Some hosts' kernels give memory to whoever reads a page that nobody wrote to; others show everybody the same page of zeros. */
function readingIsFree(): boolean {
  const before = process.memoryUsage.rss();
  const untouched = Buffer.allocUnsafeSlow(64 * MIB);
  let sum = 0;
  for (let at = 0; at < untouched.length; at += 4096) sum += untouched[at]!;
  return sum === 0 && process.memoryUsage.rss() < before + 32 * MIB;
}

describe("a Debian guest", { skip, timeout: 400_000 }, () => {
  let domain: DomainProcess;
  let control: ControlClient;
  let console: ConsoleReader;
  let spec: DomainSpec;
  let folder: string;

  const take = async (process: DomainProcess): Promise<void> => {
    domain = process;
    control = await domain.client();
    await control.call("follow", {});
    console = new ConsoleReader(await domain.client());
    await console.client.call("console-follow", {});
  };
  const infoThat = async (holds: (info: DomainInfo) => boolean): Promise<DomainInfo> => {
    for (;;) {
      const info = await control.call("info", {});
      if (holds(info)) return info;
      await sleep(50);
    }
  };
  const online = ({ vcpus }: DomainInfo): number[] =>
    vcpus.filter(({ state }) => state !== "offline").map(({ id }) => id);
  const residentMib = (): number =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${domain.child.pid}/status`, "utf8"))![1]) / 1024;
  const threads = (): number =>
    Number(/Threads:\s+(\d+)/.exec(readFileSync(`/proc/${domain.child.pid}/status`, "utf8"))![1]);

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "xeno-resize-"));
    const { kernel, ramdisk } = await (guest as DebianGuest).config({});
    spec = {
      ...{ name: "deb", kernel, ramdisk: ramdisk!, memory: 192, maxmem: 448, vcpus: 1, maxvcpus: 4 },
      cmdline: "console=hvc0 quiet loglevel=4",
      on_reboot: "restart",
    };
    await take(DomainProcess.start(spec));
    await console.until(/xeno: init reached.*# /s);
  });
  after(async () => {
    await domain?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  test("starts with what it was given, and sees what it may have", async () => {
    const info = await infoThat(({ memoryBytes }) => memoryBytes <= 192 * MIB);
    assert.deepEqual([info.memoryTargetBytes, info.memoryMaxBytes], [192 * MIB, 448 * MIB]);
    assert.deepEqual([online(info), info.vcpus.length, info.vcpusWanted], [[0], 4, 1]);
    assert.equal(await console.run("nproc"), "1");
    assert.equal(await console.run(`cat ${CPU}/possible`), "0-3");
    const total = Number(await console.run("sed -n 's/MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo"));
    assert.ok(total < 192 * 1024, `${total} KiB`);
    assert.equal((await control.call("xenstore-read", { path: "/local/domain/7/memory/static-max" })).value, "458752");
    assert.equal(
      (await control.call("xenstore-read", { path: "/local/domain/7/cpu/3/availability" })).value,
      "offline",
    );
  });

  test("is given memory, and what it gives back leaves the process", async () => {
    const before = residentMib();
    await control.call("memory-set", { targetBytes: 448 * MIB });
    await infoThat(({ memoryBytes }) => memoryBytes > 447 * MIB);
    if (readingIsFree()) assert.ok(residentMib() < before + 40, "memory that was not touched costs nothing");
    await console.run("mount -t tmpfs -o size=300m t /mnt; dd if=/dev/urandom of=/mnt/x bs=1M count=200 2>&1");
    const used = residentMib();
    // What translating its boot had left is given back meanwhile.
    assert.ok(used > before + 160, `${before} MiB before, ${used} with 200 more in use`);
    await console.run("rm /mnt/x");
    await control.call("memory-set", { targetBytes: 128 * MIB });
    await infoThat(({ memoryBytes }) => memoryBytes <= 128 * MIB);
    // Of what it keeps, any may be of those 200 MiB: it chooses.
    for (let n = 0; n < 600 && residentMib() > used - 90; n++) await sleep(100);
    assert.ok(residentMib() < used - 90, `${used} MiB before it was given back, ${residentMib()} afterwards`);
  });

  test("vcpus come up, go and come again under load", async () => {
    const few = threads();
    await control.call("vcpu-set", { count: 3 });
    for (const cpu of [1, 2]) await console.run(bringUp(cpu));
    assert.equal(await console.run("nproc"), "3");
    assert.deepEqual(online(await control.call("info", {})), [0, 1, 2]);
    assert.ok(threads() >= few + 2, "their threads start when they do");
    await console.run("for n in 1 2 3 4; do (while :; do echo $n | sha256sum > /dev/null; done) & done; sleep 1");
    for (let round = 0; round < 3; round++) {
      await control.call("vcpu-set", { count: 1 });
      await infoThat((info) => online(info).length === 1);
      assert.equal(await console.run("nproc"), "1");
      await control.call("vcpu-set", { count: 3 });
      for (const cpu of [1, 2]) await console.run(bringUp(cpu));
      assert.deepEqual(online(await control.call("info", {})), [0, 1, 2]);
      assert.equal(await console.run("nproc"), "3");
    }
    await console.run("kill $(jobs -p)");
  });

  test("has the same after it was saved", async () => {
    const file = join(folder, "saved");
    const before = await control.call("info", {});
    await control.call("save", { path: file, next: "destroy" });
    await domain.gone;
    await domain.remove();
    await take(DomainProcess.start(spec, { restore: file }));
    const info = await control.call("info", {});
    for (const key of ["memoryTargetBytes", "memoryMaxBytes", "vcpusWanted", "memoryBytes"] as const)
      assert.equal(info[key], before[key], key);
    assert.deepEqual(online(info), [0, 1, 2]);
    assert.equal(await console.run("nproc"), "3");
    // One that was never up where it was saved.
    await control.call("vcpu-set", { count: 4 });
    await console.run(bringUp(3));
    assert.equal(await console.run("nproc"), "4");
    await control.call("vcpu-set", { count: 2 });
    await infoThat((now) => online(now).length === 2);
    await control.call("memory-set", { targetBytes: 256 * MIB });
    await infoThat(({ memoryBytes }) => memoryBytes > 255 * MIB);
  });

  test("and after a reboot", async () => {
    console.text = "";
    await control.call("shutdown", { request: "reboot" });
    await console.until(/xeno: init reached.*# /s);
    const info = await infoThat(({ memoryBytes }) => memoryBytes <= 256 * MIB);
    assert.deepEqual([info.restarts, info.memoryTargetBytes, info.memoryMaxBytes], [1, 256 * MIB, 448 * MIB]);
    assert.deepEqual([online(info), info.vcpus.length, info.vcpusWanted], [[0, 1], 4, 2]);
    assert.equal(await console.run("nproc"), "2");
    // Two of its four are reserved.
    const from = info.usage;
    await sleep(1000);
    await control.call("usage-sample", {});
    const { usage } = await control.call("info", {});
    const share = (usage.vcpuReservedNs - from.vcpuReservedNs) / (usage.wallNs - from.wallNs);
    assert.ok(Math.abs(share - 2) < 0.1, `${share} vcpus reserved`);
  });
});
