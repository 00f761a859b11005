/** A stock kernel from its ramdisk to the root disk's init. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { contentOf, Ext4Image, FileTree } from "@xenoserver/storage";
import { parseDisk } from "../cfg/disk.ts";
import { findInDeb } from "../deb/deb.ts";
import { unpackModules } from "../guest/index.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import { ConsoleSession } from "../testing/guest-shell.ts";
import { diskRamdisk, type ModuleFolder, modulesIn } from "./disk-ramdisk.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-ramdisk-"));
after(() => rmSync(folder, { recursive: true }));
const guest = await DebianGuest.open();
const skip = typeof guest === "string" ? guest : false;
const SIZE_BYTES = 16 << 20;

const INIT = `#!/bin/busybox sh
echo "args $*"
echo "cmdline $(/bin/busybox cat /proc/cmdline)"
/bin/busybox grep ' / ' /proc/mounts
/bin/busybox ls /dev/xvda
/bin/busybox ls /modules
exec /bin/busybox poweroff -f
`;

describe("the ramdisk of a disk", { skip, timeout: 300_000 }, () => {
  /** A disk with nothing but a shell, and the ramdisk that a tree with the kernel's modules gives. */
  async function prepare(debian: DebianGuest): Promise<{ disk: string; ramdisk: string; modules: ModuleFolder }> {
    const { source, kernel } = debian;
    const record = await source.find("busybox-static");
    const busybox = findInDeb(readFileSync(await source.download(record)), record.name, /bin\/busybox$/)!.data;
    const tree = new FileTree();
    const put = (path: string, data: Uint8Array | string): void =>
      void tree.put(path, { type: "file", owner: { mode: 0o755, uid: 0, gid: 0, mtime: 0 }, content: contentOf(data) });
    put("bin/busybox", busybox);
    put("sbin/init", INIT);
    put("other", INIT.replace("args", "other args"));
    for (const path of ["proc", "dev"]) tree.directory(path);
    const unpacked = await unpackModules(source, kernel, () => {});
    const kept = globSync("kernel/{fs,lib,crypto,arch,drivers/block,drivers/virtio}/**/*.ko*", { cwd: unpacked });
    const kernelTree = new FileTree();
    for (const path of kept)
      kernelTree.put(`lib/modules/${kernel.release}/${path}`, {
        type: "file",
        owner: { mode: 0o644, uid: 0, gid: 0, mtime: 0 },
        content: contentOf(readFileSync(join(unpacked, path))),
      });
    const image = Ext4Image.make(tree, { sizeBytes: SIZE_BYTES, uuid: Buffer.alloc(16, 1) });
    const bytes = new Uint8Array(SIZE_BYTES);
    await image.read(0, [bytes]);
    const [disk, ramdisk] = [join(folder, "disk.img"), join(folder, "ramdisk")];
    writeFileSync(disk, bytes);
    const modules = modulesIn(kernelTree, kernel.release);
    writeFileSync(ramdisk, await diskRamdisk(modules));
    return { disk, ramdisk, modules };
  }

  test("mounts the root and becomes its init, or says what is wrong", async () => {
    const debian = guest as DebianGuest;
    const { disk, ramdisk, modules } = await prepare(debian);
    const boot = async (words: string, last: RegExp): Promise<string> => {
      const config = await debian.config({}, { disks: [parseDisk(`${disk},raw,xvda`)] });
      const cmdline = `console=hvc0 quiet panic=-1 ${words}`;
      const session = await ConsoleSession.start({ ...config, ramdisk, cmdline, onCrash: "destroy" });
      const shown = await session.until(last, 120);
      await session.destroy();
      return shown;
    };
    const plain = await boot("root=/dev/xvda ro single", /ls: .modules[^\n]*\n/);
    assert.match(plain, /args single\r\n/);
    assert.match(plain, /\n\/dev\/xvda \/ ext4 ro,/);
    assert.match(plain, /\n\/dev\/xvda\r\n/);
    assert.match(plain, /ls: \/modules: No such file/);
    const other = await boot("root=/dev/xvda rw init=/other", /ls: .modules/);
    assert.match(other, /other args\s/);
    assert.match(other, /\n\/dev\/xvda \/ ext4 rw,/);
    // Behind these the kernel panics, as its first process has ended.
    await boot("root=UUID=1234 ro", /xeno: root= names no disk, expected such as root=\/dev\/xvda\r\n/);
    await boot("root=/dev/xvda init=/none", /xeno: cannot be executed: \/none\r\n/);
    // On another machine, its drivers take the place of ours.
    const elsewhere = Buffer.from(await diskRamdisk(modules, ["virtio_mmio", "virtio_blk"])).toString("latin1");
    const order = /(?:\w+\.ko\0){2,}/.exec(elsewhere)![0].split("\0");
    const named = order.filter((name) => /^(xen_blkfront|virtio_(mmio|blk))\.ko$/.test(name));
    assert.deepEqual(named, ["virtio_mmio.ko", "virtio_blk.ko"]);
  });
});
