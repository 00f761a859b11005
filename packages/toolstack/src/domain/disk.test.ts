/** A stock Debian kernel on a disk of ours. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createQcow2 } from "@xenoserver/storage";
import { parseDisk } from "../cfg/index.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import { GuestShell } from "../testing/guest-shell.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-disk-"));
const image = join(folder, "disk.img");
const TIMEOUT_SECONDS = 240;
let guest: DebianGuest | string;

before(async () => {
  writeFileSync(image, "");
  truncateSync(image, 64 << 20);
  guest = await DebianGuest.open();
});
after(() => rmSync(folder, { recursive: true }));

test("mkfs, mount, write, read again from the disk, fsck", { timeout: 600_000 }, async (t) => {
  if (typeof guest === "string") return t.skip(guest);
  const config = await guest.config(
    { packages: ["e2fsprogs"], modules: ["xen-blkfront", "ext4"] },
    { vcpus: 2, disks: [parseDisk(`${image},,xvda`), parseDisk(`${process.execPath},,xvdb,r`)] },
  );
  const shell = await GuestShell.boot(config, TIMEOUT_SECONDS);
  const run = async (command: string): Promise<string> => {
    const { output, status } = await shell.run(command, TIMEOUT_SECONDS);
    assert.equal(status, 0, `${command}: ${output}`);
    return output;
  };
  try {
    await run("mkfs.ext4 -q /dev/xvda && mkdir /mnt/d && mount /dev/xvda /mnt/d");
    await run("dd if=/dev/urandom of=/mnt/d/noise bs=64k count=100 conv=fsync 2>/dev/null");
    const written = await run("sha256sum < /mnt/d/noise");
    await run("cp /bin/busybox /mnt/d/ && sync && echo 3 > /proc/sys/vm/drop_caches");
    assert.equal(await run("sha256sum < /mnt/d/noise"), written);
    await run("cmp /bin/busybox /mnt/d/busybox && umount /mnt/d");
    assert.match(await run("fsck.ext4 -fn /dev/xvda"), /Pass 5/);
    assert.match(await run("dd if=/dev/xvdb bs=4 count=1 2>/dev/null"), /ELF/);
    assert.equal((await shell.run("echo x > /dev/xvdb")).status, 1, "a disk that is read-only");
    assert.equal((await shell.powerOff()).reason, "poweroff");
  } finally {
    await shell.destroy();
  }
  const superblock = readFileSync(image).subarray(1024, 2048);
  assert.equal(superblock.readUInt16LE(56), 0xef53, "ext4's magic is in the file");
});

test("disks come, grow and go while the guest runs", { timeout: 600_000 }, async (t) => {
  if (typeof guest === "string") return t.skip(guest);
  const [first, second] = [join(folder, "first.img"), join(folder, "second.qcow2")];
  writeFileSync(first, "");
  truncateSync(first, 16 << 20);
  await createQcow2(second, { sizeBytes: 32 << 20 });
  const config = await guest.config(
    { packages: ["e2fsprogs"], modules: ["xen-blkfront", "ext4"] },
    { disks: [parseDisk(`${first},,xvda`)] },
  );
  const shell = await GuestShell.boot(config, TIMEOUT_SECONDS);
  const { domain } = shell.session;
  const until = async (command: string): Promise<void> => {
    const waiting = `n=0; until ${command}; do n=$((n+1)); [ $n -lt 100 ] || exit 1; sleep 0.1; done`;
    assert.equal((await shell.run(`(${waiting})`, TIMEOUT_SECONDS)).status, 0, command);
  };
  try {
    await domain.growDisk("xvda", 24 << 20);
    await until("[ $(cat /sys/block/xvda/size) = 49152 ]");
    await domain.attachDisk(parseDisk(`${second},qcow2,xvdb`));
    await until("[ -b /dev/xvdb ]");
    const { status } = await shell.run(
      "mkfs.ext4 -q /dev/xvdb && mount /dev/xvdb /mnt && echo kept > /mnt/f && umount /mnt",
    );
    assert.equal(status, 0);
    await assert.rejects(domain.attachDisk(parseDisk(`${first},,xvdb,ro`)), /vbd 51728 is there already/);
    assert.equal(await domain.detachDisk("xvdb"), true);
    await until("[ ! -e /dev/xvdb ]");
    await assert.rejects(domain.detachDisk("xvdb"), /vbd 51728 is not there/);
    await domain.attachDisk(parseDisk(`${second},qcow2,xvdb,ro`));
    await until("[ -b /dev/xvdb ]");
    assert.equal((await shell.run("mount -o ro /dev/xvdb /mnt && cat /mnt/f")).output, "kept");
    assert.equal((await shell.powerOff()).reason, "poweroff");
  } finally {
    await shell.destroy();
  }
});
