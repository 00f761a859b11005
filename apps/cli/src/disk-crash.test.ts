/**
 * A domain's process is killed while its guest writes files and syncs them; whatever was synced is there when the disk is used
 * again. Skipped where no package source can be reached.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";
import { xeno } from "./test-process.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-disk-crash-"));
after(() => rmSync(folder, { recursive: true }));

const FILES = 12;
const TIMEOUT_SECONDS = 300;

/** What a file of a number holds can be said without having seen it. */
const SCRIPT = `#!/bin/sh
mkdir -p /mnt/d
case "$(cat /proc/cmdline)" in
*phase=write*)
  mkfs.ext4 -q /dev/xvda && mount /dev/xvda /mnt/d || exit 1
  n=0
  while :; do
    n=$((n+1))
    seq $n $((n+2000)) | dd of=/mnt/d/$n conv=fsync 2> /dev/null && echo "synced $n"
  done ;;
*)
  mount /dev/xvda /mnt/d || exit 1
  n=0
  while n=$((n+1)); seq $n $((n+2000)) | cmp -s - /mnt/d/$n; do last=$n; done
  umount /mnt/d
  fsck.ext4 -fn /dev/xvda > /tmp/fsck && echo "found $last" || cat /tmp/fsck ;;
esac
`;

test("an ext4 file system on an image, killed and mounted again", { timeout: 900_000 }, async (t) => {
  const guest = await DebianGuest.open();
  if (typeof guest === "string") return t.skip(guest);
  const { kernel, ramdisk } = await guest.config({
    packages: ["e2fsprogs"],
    modules: ["xen-blkfront", "ext4"],
    script: SCRIPT,
  });
  const env = { XENO_STORE: join(folder, "store") };
  const empty = join(folder, "empty.raw");
  assert.equal((await xeno(["disk", "create", empty, "64M"], { env })).status, 0);
  assert.equal((await xeno(["image", "import", empty, "empty"], { env })).status, 0);
  const run = (phase: string, onOutput?: Parameters<typeof xeno>[1]) => {
    const cmdline = `cmdline=console=hvc0 quiet phase=${phase}`;
    const settings = [`kernel=${kernel}`, `ramdisk=${ramdisk}`, "name=crash", "memory=384", cmdline];
    return xeno(["run", ...settings, 'disk=["empty,image,xvda"]', "--timeout", String(TIMEOUT_SECONDS)], {
      env,
      ...onOutput,
    });
  };

  let synced = 0;
  const written = await run("write", {
    onOutput: (child, soFar) => {
      synced = Number(/.*synced (\d+)\r?\n/s.exec(soFar)?.[1] ?? 0);
      if (synced >= FILES) child.kill("SIGKILL");
    },
  });
  assert.equal(written.status, null, written.stdout + written.stderr);
  assert.ok(synced >= FILES);
  const checked = await run("check");
  const found = Number(/found (\d+)/.exec(checked.stdout)?.[1]);
  assert.ok(found >= synced, `synced ${synced}, found ${found}:\n${checked.stdout}`);
});
