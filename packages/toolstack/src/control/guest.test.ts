/** What a stock Debian kernel makes of what its control socket asks. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ConsoleReader } from "../testing/console-reader.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import { DomainProcess } from "../testing/domain-process.ts";
import type { ControlClient } from "./client.ts";
import type { DomainInfo } from "./protocol.ts";

const guest = await DebianGuest.open();
const skip = typeof guest === "string" ? guest : false;

describe("a Debian guest", { skip }, () => {
  let domain: DomainProcess;
  let control: ControlClient;
  let console: ConsoleReader;
  let folder: string;

  const infoThat = async (holds: (info: DomainInfo) => boolean): Promise<DomainInfo> => {
    for (;;) {
      const info = await control.call("info", {});
      if (holds(info)) return info;
      await sleep(50);
    }
  };

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "xeno-control-guest-"));
    const { kernel, ramdisk } = await (guest as DebianGuest).config({ modules: ["xen-blkfront", "xen-netfront"] });
    domain = DomainProcess.start({
      ...{ name: "deb", kernel, ramdisk: ramdisk!, memory: 192, vcpus: 2, maxvcpus: 3 },
      cmdline: "console=hvc0 quiet loglevel=4 sysrq_always_enabled=1",
      on_reboot: "restart",
    });
    control = await domain.client();
    await control.call("follow", {});
    console = new ConsoleReader(await domain.client());
    await console.client.call("console-follow", {});
    await console.until(/xeno: init reached.*# /s);
  });
  after(async () => {
    await domain?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  test("several clients see one console; who comes late sees what was printed before", async () => {
    const late = new ConsoleReader(await domain.client());
    const { begin, end } = await late.client.call("console-follow", {});
    assert.equal(begin, 0);
    assert.ok(end > 0);
    await late.until(/xeno: init reached/);
    assert.equal(await late.run("echo from the $(uname -s)"), "from the Linux");
    await console.until(/from the Linux/);
    const { base64 } = await late.client.call("console-read", {});
    assert.match(Buffer.from(base64, "base64").toString("latin1"), /from the Linux/);
  });

  test("xenstore is read, written, listed and watched, under the domain's own number", async () => {
    assert.equal((await control.call("xenstore-read", { path: "/local/domain/7/name" })).value, "deb");
    assert.equal((await control.call("xenstore-read", { path: "/nothing" })).value, null);
    const watcher = await domain.client();
    const fired = new Promise<string>((resolve) => {
      watcher.onEvent = (event) => event.event === "xenstore" && event.path.endsWith("/new") && resolve(event.path);
    });
    await watcher.call("xenstore-watch", { path: "/local/domain/7/data", token: "t" });
    await control.call("xenstore-write", { path: "/local/domain/7/data/new", value: "x" });
    assert.equal(await fired, "/local/domain/7/data/new");
    const { nodes } = await control.call("xenstore-tree", { path: "/local/domain/7/device" });
    assert.deepEqual(nodes[0], { path: "/local/domain/7/device", value: "", permissions: ["n0", "r7"] });
    await control.call("xenstore-rm", { path: "/local/domain/7/data/new" });
    assert.equal((await control.call("xenstore-read", { path: "/local/domain/7/data/new" })).value, null);
  });

  test("its balloon follows the memory target down and up", async () => {
    const full = await control.call("info", {});
    await control.call("memory-set", { targetBytes: 128 * 2 ** 20 });
    const less = await infoThat(({ memoryBytes }) => memoryBytes <= 130 * 2 ** 20);
    assert.equal(less.memoryTargetBytes, 128 * 2 ** 20);
    await control.call("memory-set", { targetBytes: 192 * 2 ** 20 });
    await infoThat(({ memoryBytes }) => memoryBytes === full.memoryBytes);
  });

  test("a vcpu goes and comes", async () => {
    await control.call("vcpu-set", { count: 1 });
    const one = await infoThat(({ vcpus }) => vcpus[1]!.state === "offline");
    assert.deepEqual([one.vcpusWanted, one.vcpus.length], [1, 3]);
    assert.equal(await console.run("cat /sys/devices/system/cpu/online"), "0");
    await control.call("vcpu-set", { count: 2 });
    // Linux makes the processor known; whether it is used is udev's affair.
    const cpu = "/sys/devices/system/cpu/cpu1/online";
    await console.run(`while [ ! -e ${cpu} ]; do sleep 0.1; done; echo 1 > ${cpu}`);
    await infoThat(({ vcpus }) => vcpus[1]!.state !== "offline");
  });

  test("a vcpu that was kept for later is not there at first, and comes when it is wanted", async () => {
    assert.equal((await control.call("info", {})).vcpus[2]!.state, "offline");
    assert.equal(await console.run("cat /sys/devices/system/cpu/online"), "0-1");
    await control.call("vcpu-set", { count: 3 });
    const cpu = "/sys/devices/system/cpu/cpu2/online";
    await console.run(`while [ ! -e ${cpu} ]; do sleep 0.1; done; echo 1 > ${cpu}`);
    const three = await infoThat(({ vcpus }) => vcpus[2]!.state !== "offline");
    assert.equal(three.vcpusWanted, 3);
    assert.equal(await console.run("nproc"), "3");
    await assert.rejects(control.call("vcpu-set", { count: 4 }), /vcpus of deb: 4, expected 1 to 3/);
    await control.call("vcpu-set", { count: 2 });
    await infoThat(({ vcpus }) => vcpus[2]!.state === "offline");
  });

  test("a disk is plugged in, used, counted and taken out", async () => {
    const disk = join(folder, "disk.img");
    writeFileSync(disk, "");
    truncateSync(disk, 4 << 20);
    await control.call("block-attach", { disk: `${disk},raw,xvdb` });
    const command =
      "while [ ! -b /dev/xvdb ]; do sleep 0.1; done; dd if=/dev/zero of=/dev/xvdb bs=64k count=4 2>&1; sync";
    assert.match(await console.run(command), /4\+0 records out/);
    const used = (await control.call("info", {})).devices.find((device) => device.kind === "disk");
    assert.ok(used?.kind === "disk" && used.writtenBytes === 256 * 1024 && used.sizeBytes === 4 << 20);
    assert.equal((await control.call("block-detach", { vdev: "xvdb" })).agreed, true);
    const info = await control.call("info", {});
    assert.deepEqual(info.devices, []);
    assert.ok(info.usage.diskWrittenBytes === 256 * 1024, "what a disk did is remembered when it is gone");
  });

  test("so is a network interface", async () => {
    const { devid } = await control.call("network-attach", { vif: "" });
    assert.equal(devid, 0);
    await console.run(
      "while [ ! -e /sys/class/net/eth0 ]; do sleep 0.1; done; ip link set eth0 up; udhcpc -i eth0 -n -q 2>&1",
    );
    await infoThat(({ usage }) => usage.netSentBytes > 0 && usage.netReceivedBytes > 0);
    await control.call("network-detach", { devid });
    assert.deepEqual((await control.call("info", {})).devices, []);
  });

  test("it hears sysrq, reboots and powers off as it is asked", async () => {
    await control.call("sysrq", { key: "h" });
    await console.until(/sysrq: HELP/);
    console.text = "";
    await control.call("rename", { name: "other" });
    await control.call("shutdown", { request: "reboot" });
    await console.until(/xeno: init reached.*# /s);
    const again = await control.call("info", {});
    assert.deepEqual([again.restarts, again.name], [1, "other"]);
    assert.equal((await control.call("xenstore-read", { path: "/local/domain/7/name" })).value, "other");
    await control.call("shutdown", { request: "poweroff" });
    assert.equal(await domain.gone, 0);
    assert.deepEqual([domain.end().reason, domain.end().restarts], ["poweroff", 1]);
  });
});
