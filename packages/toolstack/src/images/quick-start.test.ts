/** What an image's system leaves out at its start, on a tree such as packages make. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FileTree, readContent } from "@xenoserver/storage";
import { quicken } from "./quick-start.ts";
import { link, write } from "./tree-files.ts";

const RELEASE = "6.1.0-1-cloud-amd64";

async function textIn(tree: FileTree, path: string): Promise<string | undefined> {
  const file = tree.file(path);
  return file && Buffer.from(await readContent(file.content, 65536, path)).toString();
}

async function quickened(): Promise<FileTree> {
  const tree = new FileTree();
  const units = "lib/systemd/system";
  write(tree, `${units}/systemd-resolved.service`, "[Unit]\nBefore=sysinit.target shutdown.target\nAfter=x.service\n");
  write(tree, `${units}/systemd-user-sessions.service`, "[Unit]\nAfter=remote-fs.target network.target\n[Service]\n");
  link(tree, `${units}/multi-user.target.wants/systemd-logind.service`, "../systemd-logind.service");
  for (const name of ["apt-daily.timer", "fstrim.timer"])
    link(tree, `etc/systemd/system/timers.target.wants/${name}`, `/${units}/${name}`);
  write(
    tree,
    `lib/modules/${RELEASE}/modules.devname`,
    "# names\nfuse fuse c10:229\ntun net/tun c10:200\nloop loop-control c10:237\n",
  );
  await quicken(tree, RELEASE);
  return tree;
}

test("units stay as their packages have them, but for an order that holds up the login", async () => {
  const tree = await quickened();
  assert.equal(
    await textIn(tree, "etc/systemd/system/systemd-resolved.service"),
    "[Unit]\nBefore=shutdown.target\nAfter=x.service\n",
  );
  assert.equal(await textIn(tree, "etc/systemd/system/systemd-user-sessions.service"), "[Unit]\n\n[Service]\n");
  assert.match((await textIn(tree, "lib/systemd/system/systemd-resolved.service"))!, /Before=sysinit\.target/);
});

test("what is left out can be brought back, and what a machine needs goes on", async () => {
  const tree = await quickened();
  assert.deepEqual(tree.get("etc/systemd/system/sys-kernel-debug.mount"), {
    type: "symlink",
    owner: { mode: 0o777, uid: 0, gid: 0, mtime: 0 },
    target: "/dev/null",
  });
  assert.equal(tree.get("lib/systemd/system/multi-user.target.wants/systemd-logind.service"), undefined);
  assert.equal(tree.get("etc/systemd/system/timers.target.wants/apt-daily.timer"), undefined);
  assert.equal(tree.get("etc/systemd/system/timers.target.wants/fstrim.timer")?.type, "symlink");
  // Absent as this tree has no such package: no unit without a program.
  const bare = new FileTree();
  await quicken(bare, RELEASE);
  assert.equal(bare.get("etc/systemd/system/systemd-resolved.service"), undefined);
});

test("device files that load a module are made, with the modes that udev would give them", async () => {
  assert.equal(
    await textIn(await quickened(), "etc/tmpfiles.d/static-nodes.conf"),
    "c! /dev/fuse 0666 - - - 10:229\nc! /dev/net/tun 0666 - - - 10:200\nc! /dev/loop-control 0600 - - - 10:237\n",
  );
});
