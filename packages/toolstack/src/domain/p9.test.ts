/** A stock Debian kernel with folders of the host. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { DebianGuest } from "../testing/debian-guest.ts";
import { GuestShell } from "../testing/guest-shell.ts";

const TIMEOUT_SECONDS = 240;
const MANY = 10_000;
const folder = mkdtempSync(join(tmpdir(), "xeno-p9-"));
const share = join(folder, "share");
const seen = join(folder, "seen");
let guest: DebianGuest | string;

before(async () => {
  mkdirSync(join(share, "many"), { recursive: true });
  mkdirSync(seen);
  writeFileSync(join(folder, "secret"), "secret\n");
  writeFileSync(join(share, "hello"), "hello from the host\n");
  symlinkSync(join(folder, "secret"), join(share, "out"));
  symlinkSync("../secret", join(share, "up"));
  symlinkSync("..", join(share, "above"));
  for (let n = 0; n < MANY; n++) writeFileSync(join(share, "many", `file-${n}`), "");
  writeFileSync(join(seen, "file"), "only to be seen\n");
  guest = await DebianGuest.open("bookworm", "generic");
});
after(() => rmSync(folder, { recursive: true }));

test("a guest reads, writes and renames in its folder, and gets nowhere else", { timeout: 600_000 }, async (t) => {
  if (typeof guest === "string") return t.skip(guest);
  const config = await guest.config(
    { modules: ["9pnet_xen", "9p"] },
    {
      p9s: [
        { tag: "share", path: share, readOnly: false },
        { tag: "seen", path: seen, readOnly: true },
      ],
    },
  );
  const shell = await GuestShell.boot(config, TIMEOUT_SECONDS);
  const run = async (command: string): Promise<string> => {
    const { output, status } = await shell.run(command, TIMEOUT_SECONDS);
    assert.equal(status, 0, `${command}: ${output}`);
    return output;
  };
  const refused = async (command: string, message: RegExp): Promise<void> => {
    const { output, status } = await shell.run(command, TIMEOUT_SECONDS);
    assert.notEqual(status, 0, command);
    assert.match(output, message, command);
  };
  try {
    const options = "trans=xen,version=9p2000.L";
    await run(`mkdir /mnt/a /mnt/b && mount -t 9p -o ${options} share /mnt/a && mount -t 9p -o ${options} seen /mnt/b`);
    assert.equal(await run("cat /mnt/a/hello"), "hello from the host");
    assert.equal(await run("ls -1 /mnt/a"), "above\nhello\nmany\nout\nup");
    assert.equal(await run("echo /mnt/a/many/* | wc -w"), String(MANY));

    const sum = await run("dd if=/dev/urandom of=/mnt/a/noise bs=100k count=20 2>/dev/null; sha256sum < /mnt/a/noise");
    assert.equal(readFileSync(join(share, "noise")).length, 20 * 102400);
    await run("cp /mnt/a/noise /mnt/a/copy && mv /mnt/a/copy /mnt/a/moved && rm /mnt/a/noise");
    assert.equal(await run("sha256sum < /mnt/a/moved"), sum);
    await run(
      "mkdir -p /mnt/a/d/e && echo x > /mnt/a/d/e/f && echo y >> /mnt/a/d/e/f && ln /mnt/a/d/e/f /mnt/a/hard && ln -s d/e /mnt/a/link",
    );
    assert.equal(readFileSync(join(share, "hard"), "utf8"), "x\ny\n");
    assert.equal(await run("cat /mnt/a/link/f"), "x\ny");
    await run("chmod 640 /mnt/a/hard && truncate -s 1 /mnt/a/hard && touch -d 2001-09-09 /mnt/a/hard");
    assert.deepEqual([lstatSync(join(share, "hard")).mode & 0o7777, lstatSync(join(share, "hard")).size], [0o640, 1]);
    await run("chmod 6755 /mnt/a/hard");
    assert.equal(lstatSync(join(share, "hard")).mode & 0o7777, 0o755, "no file of a guest runs as another user");
    await run("rm -r /mnt/a/d && ! ls /mnt/a/d 2>/dev/null && df /mnt/a");

    // Links are the guest's to follow, and lead to its own files.
    await refused("cat /mnt/a/out", /No such file/);
    await refused("cat /mnt/a/up", /No such file/);
    await refused("cat /mnt/a/above/secret", /No such file/);
    await run(`ln -s ${folder} /mnt/a/trap && ! ls /mnt/a/trap/secret 2>/dev/null`);
    await refused("mknod /mnt/a/device b 1 1", /Operation not permitted/);
    assert.equal(await run("cat /mnt/b/file"), "only to be seen");
    await refused("echo x > /mnt/b/file", /Read-only file system/);
    await refused("rm /mnt/b/file", /Read-only file system/);
    await run("umount /mnt/a /mnt/b");
    assert.equal((await shell.powerOff()).reason, "poweroff");
  } finally {
    await shell.destroy();
  }
  assert.equal(readFileSync(join(folder, "secret"), "utf8"), "secret\n");
  assert.ok(existsSync(join(seen, "file")));
  assert.deepEqual(readdirSync(folder).sort(), ["secret", "seen", "share"]);
});
