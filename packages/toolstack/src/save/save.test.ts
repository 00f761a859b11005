/** A stock Debian kernel that is saved and goes on. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type DomainConfig, parseDisk, parseVif, specOfConfig } from "../cfg/index.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import { GuestShell } from "../testing/guest-shell.ts";
import { SavedFile } from "./index.ts";

const TIMEOUT_SECONDS = 240;
const folder = mkdtempSync(join(tmpdir(), "xeno-save-"));
const [image, saved] = [join(folder, "disk.img"), join(folder, "saved")];
let guest: DebianGuest | string;

before(async () => {
  writeFileSync(image, "");
  truncateSync(image, 32 << 20);
  guest = await DebianGuest.open();
});
after(() => rmSync(folder, { recursive: true }));

async function runOk(shell: GuestShell, command: string): Promise<string> {
  const { output, status } = await shell.run(command, TIMEOUT_SECONDS);
  assert.equal(status, 0, `${command}: ${output}`);
  return output;
}
/** Saves a domain and ends it. */
async function saveAndEnd(shell: GuestShell, config: DomainConfig): Promise<void> {
  const { domain } = shell.session;
  await domain.pause();
  await domain.save(saved, specOfConfig(config));
  await domain.destroy();
}

describe("a domain that was saved", () => {
  // With more than 4 GiB, so that rings, grants and page tables lie where addresses have more than 32 bits.
  test("goes on with its processes, memory, disk and network, and with two vcpus", { timeout: 600_000 }, async (t) => {
    if (typeof guest === "string") return t.skip(guest);
    const config = await guest.config(
      { packages: ["e2fsprogs"], modules: ["xen-blkfront", "ext4", "xen-netfront"] },
      { memoryMib: 5120, vcpus: 2, disks: [parseDisk(`${image},,xvda`)], vifs: [parseVif("host=1")] },
    );
    let shell = await GuestShell.boot(config, TIMEOUT_SECONDS);
    try {
      const total = Number((await runOk(shell, "grep MemTotal /proc/meminfo")).replace(/\D/g, ""));
      assert.ok(total > 4.5 * 2 ** 20, `the guest sees ${total} kB of memory`);
      await runOk(shell, "mkfs.ext4 -q /dev/xvda && mkdir /mnt/d && mount /dev/xvda /mnt/d");
      await runOk(
        shell,
        "n=0; until ping -c 1 -W 1 10.0.2.2 > /dev/null; do n=$((n+1)); [ $n -lt 50 ] || break; sleep 0.2; done; [ $n -lt 50 ]",
      );
      await runOk(shell, "dd if=/dev/urandom of=/tmp/noise bs=64k count=64 2>/dev/null; cp /tmp/noise /mnt/d/");
      const sums = await runOk(shell, "sha256sum < /tmp/noise");
      // Both vcpus are at work while the domain is saved: one counts, one writes to the disk.
      await runOk(shell, "(i=0; while :; do i=$((i+1)); echo $i > /tmp/n.new; mv /tmp/n.new /tmp/n; done) & sleep 1");
      await runOk(
        shell,
        "(while [ ! -e /tmp/stop ]; do dd if=/tmp/noise of=/mnt/d/again bs=64k conv=fsync 2>/dev/null; done) & sleep 1",
      );
      const count = Number(await runOk(shell, "cat /tmp/n"));
      const upSeconds = Number.parseFloat(await runOk(shell, "cat /proc/uptime"));
      await saveAndEnd(shell, config);

      shell = await GuestShell.resume(await SavedFile.open(saved));
      assert.ok(Number(await runOk(shell, "cat /tmp/n")) >= count);
      assert.ok(Number.parseFloat(await runOk(shell, "cat /proc/uptime")) >= upSeconds);
      const date = Number(await runOk(shell, "date +%s"));
      assert.ok(Math.abs(date - Date.now() / 1000) < 60, `the guest's date is ${date}`);
      assert.equal(await runOk(shell, "nproc"), "2");
      assert.equal(await runOk(shell, "sha256sum < /tmp/noise"), sums);
      // The loop ends by itself: a signal would end dd too, when it has just made the file empty.
      await runOk(shell, "touch /tmp/stop; wait %2; sync && echo 3 > /proc/sys/vm/drop_caches");
      assert.equal(await runOk(shell, "sha256sum < /mnt/d/noise"), sums);
      assert.equal(await runOk(shell, "sha256sum < /mnt/d/again"), sums);
      await runOk(shell, "ping -c 1 -W 5 10.0.2.2");
      await runOk(shell, "umount /mnt/d && fsck.ext4 -fn /dev/xvda");
      assert.equal((await shell.powerOff()).reason, "poweroff");
    } finally {
      await shell.destroy();
    }
  });

  test("goes on interpreted where it was translated, again and again, and the original runs on", {
    timeout: 600_000,
  }, async (t) => {
    if (typeof guest === "string") return t.skip(guest);
    const config = await guest.config({}, {});
    let shell = await GuestShell.boot(config, TIMEOUT_SECONDS);
    try {
      await runOk(shell, "x=kept");
      const { domain } = shell.session;
      await assert.rejects(domain.save(saved, specOfConfig(config)), /runs, expected it to be paused/);
      await domain.pause();
      await domain.save(saved, specOfConfig(config));
      await domain.unpause();
      assert.equal(await runOk(shell, "echo $x"), "kept");
      await shell.destroy();
      for (const translate of ["never", "hot"] as const) {
        shell = await GuestShell.resume(await SavedFile.open(saved), { translate });
        assert.equal(await runOk(shell, "echo $x"), "kept");
        await saveAndEnd(shell, config);
      }
      await domain.destroy();
    } finally {
      await shell.destroy();
    }
  });

  test("leaves no file where it cannot be written", { timeout: 600_000 }, async (t) => {
    if (typeof guest === "string") return t.skip(guest);
    const config = await guest.config({}, {});
    const shell = await GuestShell.boot(config, TIMEOUT_SECONDS);
    try {
      const { domain } = shell.session;
      await domain.pause();
      const nowhere = join(folder, "no", "folder");
      await assert.rejects(domain.save(nowhere, specOfConfig(config)), /no\/folder: cannot be written: ENOENT/);
      if (existsSync("/dev/full"))
        await assert.rejects(domain.save("/dev/full/x", specOfConfig(config)), /cannot be written/);
      await domain.unpause();
      assert.equal(await runOk(shell, "echo here"), "here");
      assert.deepEqual(
        readdirSync(folder).filter((name) => name.endsWith(".part")),
        [],
      );
    } finally {
      await shell.destroy();
    }
  });

  test("is refused with a sentence when its file is damaged, wherever that is", { timeout: 600_000 }, async (t) => {
    if (!existsSync(saved)) return t.skip("nothing was saved");
    const whole = readFileSync(saved);
    const broken = join(folder, "broken");
    const refused = async (bytes: Uint8Array, what: string): Promise<void> => {
      writeFileSync(broken, bytes);
      await assert.rejects(
        async () => GuestShell.resume(await SavedFile.open(broken)),
        (error: Error) => {
          assert.equal(error.name, "SaveError", `${what}: ${error.stack}`);
          assert.match(error.message, /^[^\n]+$/);
          return true;
        },
      );
    };
    for (const share of [0, 0.00001, 0.01, 0.5, 0.999]) {
      const at = Math.floor(whole.length * share);
      await refused(whole.subarray(0, at), `cut at ${at}`);
      const flipped = Uint8Array.from(whole);
      flipped[at] = flipped[at]! ^ 0x10;
      await refused(flipped, `flipped at ${at}`);
    }
    await refused(Buffer.from("XENODOM\n\x01\0\0\0"), "another version");
  });
});
