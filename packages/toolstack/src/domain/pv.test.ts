/** A paravirtual Debian kernel under the real Xen, which is itself a guest. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseDisk, parseVif, specOfConfig } from "../cfg/index.ts";
import { SavedFile } from "../save/index.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import { GuestShell } from "../testing/guest-shell.ts";

const TIMEOUT_SECONDS = 240;
const folder = mkdtempSync(join(tmpdir(), "xeno-pv-"));
const [image, saved] = [join(folder, "disk.img"), join(folder, "saved")];
let guest: DebianGuest | string;

before(async () => {
  writeFileSync(image, "");
  truncateSync(image, 64 << 20);
  guest = await DebianGuest.open();
});
after(() => rmSync(folder, { recursive: true }));

async function runOk(shell: GuestShell, command: string): Promise<string> {
  const { output, status } = await shell.run(command, TIMEOUT_SECONDS);
  assert.equal(status, 0, `${command}: ${output}`);
  return output;
}

describe("a paravirtual guest", { timeout: 600_000 }, () => {
  test("has two vcpus, a disk and a network, and goes on after it was saved", async (t) => {
    if (typeof guest === "string") return t.skip(guest);
    const config = await guest.config(
      { packages: ["e2fsprogs"], modules: ["xen-blkfront", "ext4", "xen-netfront"] },
      {
        ...(await guest.paravirtual()),
        ...{ vcpus: 2, memoryMib: 384, disks: [parseDisk(`${image},,xvda`)], vifs: [parseVif("host=1")] },
      },
    );
    let shell = await GuestShell.boot(config, TIMEOUT_SECONDS);
    try {
      assert.equal(await runOk(shell, "cat /sys/hypervisor/guest_type"), "PV");
      assert.equal(await runOk(shell, "nproc"), "2");
      await runOk(shell, "mkfs.ext4 -q /dev/xvda && mkdir /mnt/d && mount /dev/xvda /mnt/d");
      await runOk(shell, "dd if=/dev/urandom of=/mnt/d/noise bs=64k count=64 conv=fsync 2>/dev/null");
      const sums = await runOk(shell, "sha256sum < /mnt/d/noise");
      await runOk(
        shell,
        "n=0; until ping -c 1 -W 1 10.0.2.2 > /dev/null; do n=$((n+1)); [ $n -lt 50 ] || exit 1; done",
      );
      const { domain } = shell.session;
      await domain.pause();
      await domain.save(saved, specOfConfig(config));
      await domain.destroy();

      shell = await GuestShell.resume(await SavedFile.open(saved));
      const date = Number(await runOk(shell, "date +%s"));
      assert.ok(Math.abs(date - Date.now() / 1000) < 60, `the guest's date is ${date}`);
      await runOk(shell, "echo 3 > /proc/sys/vm/drop_caches; sleep 1");
      assert.equal(await runOk(shell, "sha256sum < /mnt/d/noise"), sums);
      await runOk(shell, "ping -c 1 -W 5 10.0.2.2");
      await runOk(shell, "umount /mnt/d && fsck.ext4 -fn /dev/xvda");
      assert.equal((await shell.powerOff()).reason, "poweroff");
    } finally {
      await shell.destroy();
    }
  });
});
