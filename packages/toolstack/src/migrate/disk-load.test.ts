/** A stock Debian kernel that writes to its disk while it moves with it. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openImage } from "@xenoserver/storage";
import { specOfConfig } from "../cfg/index.ts";
import type { InitramfsOptions } from "../guest/index.ts";
import { ConsoleReader } from "../testing/console-reader.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import type { DomainProcess } from "../testing/domain-process.ts";
import { moveTo, reportOf, TestServer } from "../testing/moving-servers.ts";

const MIB = 1 << 20;
/** Blocks behind the image's bytes, each of which has the greatest number that it was written with. */
const [FIRST_SLOT, SLOTS] = [2048, 24];
const folder = mkdtempSync(join(tmpdir(), "xeno-load-"));
const [left, right] = [new TestServer(join(folder, "left")), new TestServer(join(folder, "right"))];
const base = randomBytes(4 * MIB);
let guest: DebianGuest | string;

before(async () => {
  guest = await DebianGuest.open();
  const raw = join(folder, "base.img");
  writeFileSync(raw, Buffer.concat([base, Buffer.alloc(28 * MIB)]));
  const disk = await openImage(raw, { format: "raw", readOnly: true });
  await (await left.store()).import("base:1", disk);
  await disk.close();
});
after(async () => {
  for (const server of [left, right]) await server.remove();
  rmSync(folder, { recursive: true });
});

/** Numbers blocks one after the other, each of which is on the disk before the next; and writes much else. */
const WRITERS = `#!/bin/sh
numbers() {
  n=$(cat /tmp/n 2>/dev/null || echo 0)
  while [ ! -e /tmp/stop ]; do
    n=$((n+1))
    printf %08d $n | dd of=/dev/xvda bs=4096 seek=$((${FIRST_SLOT} + n % ${SLOTS})) conv=notrunc,fsync 2>/dev/null
    echo $n > /tmp/n
  done
  touch /tmp/numbered
}
noise() {
  while [ ! -e /tmp/stop ]; do dd if=/tmp/noise of=/dev/xvda bs=64k seek=256 conv=notrunc,fsync 2>/dev/null; done
  touch /tmp/noised
}
rm -f /tmp/numbered /tmp/noised
numbers > /dev/null 2>&1 < /dev/null &
noise > /dev/null 2>&1 < /dev/null &
`;
const STOP = `#!/bin/sh
touch /tmp/stop
while [ ! -e /tmp/numbered ] || [ ! -e /tmp/noised ]; do sleep 0.1; done
rm /tmp/stop
echo 3 > /proc/sys/vm/drop_caches
cat /tmp/n
s=0
while [ $s -lt ${SLOTS} ]; do
  dd if=/dev/xvda bs=4096 skip=$((${FIRST_SLOT} + s)) count=1 2>/dev/null | head -c 8
  echo
  s=$((s+1))
done
`;

async function consoleOf(domain: DomainProcess): Promise<ConsoleReader> {
  const reader = new ConsoleReader(await domain.client());
  await reader.client.call("console-follow", {});
  return reader;
}
const sumOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** The writers stop, and all that they wrote is read from the disk. @returns how far they came */
async function check(console: ConsoleReader): Promise<number> {
  const [last, ...slots] = (await console.run("stop-load")).split("\n").map(Number);
  assert.ok(last! > SLOTS, `${last} writes`);
  for (let slot = 0; slot < SLOTS; slot++)
    assert.equal(slots[slot], last! - ((last! - slot + SLOTS) % SLOTS), `slot ${slot} after ${last} writes`);
  const noise = "dd if=/dev/xvda bs=64k skip=256 count=16 2>/dev/null | sha256sum";
  assert.equal(await console.run(noise), await console.run("sha256sum < /tmp/noise"));
  assert.equal(
    (await console.run("dd if=/dev/xvda bs=1M skip=1 count=3 2>/dev/null | sha256sum")).split(" ")[0],
    sumOf(base.subarray(MIB)),
  );
  assert.equal(
    (await console.run("dd if=/dev/xvda bs=1M count=1 2>/dev/null | sha256sum")).split(" ")[0],
    sumOf(Buffer.alloc(MIB)),
    "what was zeroed over the image",
  );
  return last!;
}

test("a guest writes to its disk while both move, there and back, and reboots there", {
  timeout: 600_000,
}, async (t) => {
  if (typeof guest === "string") return t.skip(guest);
  const customise: InitramfsOptions["customise"] = (tree) => {
    tree.file("bin/load", WRITERS, 0o755);
    tree.file("bin/stop-load", STOP, 0o755);
  };
  const config = await guest.config(
    { modules: ["xen-blkfront"], customise },
    { memoryMib: 128, vcpus: 2, onReboot: "restart" },
  );
  const kernel = join(folder, "kernel-of-left");
  copyFileSync(config.kernel, kernel);
  // A path that only the first server has.
  const spec = {
    ...specOfConfig({ ...config, kernel: "/proc/self/cwd/kernel" }),
    ...{ name: "loaded", uuid: randomUUID(), disk: ["base:1,image,xvda"] },
  };
  copyFileSync(kernel, join(left.folder, "kernel"));
  let here = left.start(spec);
  let console = await consoleOf(here);
  await console.until(/xeno: init reached.*# /s);
  await console.run("dd if=/dev/zero of=/dev/xvda bs=64k count=16 conv=notrunc,fsync 2>/dev/null");
  await console.run("dd if=/dev/urandom of=/tmp/noise bs=64k count=16 2>/dev/null");
  let count = 0;
  for (const to of [right, left]) {
    await console.run("load");
    await console.run("sleep 2");
    const move = await moveTo(to, here, spec);
    const { diskBytes } = reportOf(move);
    assert.ok(diskBytes > MIB);
    here = move.there;
    console = await consoleOf(here);
    await console.run("sleep 1");
    const now = await check(console);
    assert.ok(now > count);
    count = now;
  }
  assert.deepEqual([await left.overlays(), await right.overlays()], [["loaded-xvda"], []]);
  rmSync(join(left.folder, "kernel"));
  assert.equal(existsSync(join(here.folder, "kernel")), true);
  const mark = `${randomUUID()}`;
  await console.run(`echo ${mark} | dd of=/dev/xvda bs=4096 seek=4096 conv=notrunc,fsync 2>/dev/null`);
  console.text = "";
  await console.client.call("console-write", { base64: Buffer.from("reboot -f\n").toString("base64") });
  await console.until(/xeno: init reached.*# /s);
  assert.equal(await console.run("dd if=/dev/xvda bs=4096 skip=4096 count=1 2>/dev/null | head -c 36"), mark);
  assert.equal((await console.client.call("info", {})).restarts, 1);
  await console.client.call("destroy", {});
  await here.gone;
});
