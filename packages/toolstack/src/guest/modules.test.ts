import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import { addModules, moduleInfo } from "./modules.ts";
import { PackageError } from "./package-source.ts";
import { RootTree } from "./root-tree.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-modules-"));
after(() => rmSync(folder, { recursive: true }));

/** An ELF object with nothing but a section .modinfo and the sections' names. */
function makeModule(info: string): Buffer {
  const names = Buffer.from("\0.modinfo\0.shstrtab\0");
  const body = Buffer.from(info);
  const file = Buffer.alloc(64 + 3 * 64 + body.length + names.length);
  file.write("\x7fELF\x02\x01\x01", "latin1");
  file.writeBigUInt64LE(64n, 40);
  file.writeUInt16LE(64, 58);
  file.writeUInt16LE(3, 60);
  file.writeUInt16LE(2, 62);
  const section = (n: number, name: number, at: number, length: number): void => {
    file.writeUInt32LE(name, 64 + n * 64);
    file.writeBigUInt64LE(BigInt(at), 64 + n * 64 + 24);
    file.writeBigUInt64LE(BigInt(length), 64 + n * 64 + 32);
  };
  section(1, 1, 256, body.length);
  section(2, 10, 256 + body.length, names.length);
  body.copy(file, 256);
  names.copy(file, 256 + body.length);
  return file;
}

function put(path: string, bytes: Uint8Array | string): void {
  mkdirSync(join(folder, path, ".."), { recursive: true });
  writeFileSync(join(folder, path), bytes);
}
put("modules.builtin", "kernel/fs/mbcache.ko\n");
put("kernel/fs/ext4/ext4.ko.gz", gzipSync(makeModule("license=GPL\0depends=jbd2,mbcache,crc16\0alias=fs-ext4\0")));
put("kernel/fs/jbd2/jbd2.ko", makeModule("depends=crc16\0"));
put("kernel/lib/crc16.ko", makeModule("depends=\0"));
put("kernel/crypto/crc32c_generic.ko", makeModule("alias=crypto-crc32c\0depends=\0"));
put("kernel/drivers/block/xen-blkfront.ko", makeModule("depends=\0alias=xen:vbd\0"));

const text = (tree: RootTree, path: string): string => Buffer.from(tree.read(path)!).toString();

test("wanted modules come with what they depend on, unpacked, and with modprobe's tables", () => {
  const tree = new RootTree();
  addModules(tree, { folder, release: "6.1-test" }, ["ext4", "xen_blkfront"]);
  const home = "lib/modules/6.1-test";
  assert.deepEqual(text(tree, `${home}/modules.dep`).split("\n"), [
    "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko",
    "kernel/fs/jbd2/jbd2.ko: kernel/lib/crc16.ko",
    "kernel/lib/crc16.ko:",
    "kernel/crypto/crc32c_generic.ko:",
    "kernel/drivers/block/xen-blkfront.ko:",
    "",
  ]);
  assert.equal(moduleInfo(tree.read(`${home}/kernel/fs/ext4/ext4.ko`)!).get("license")?.[0], "GPL");
  assert.match(text(tree, `${home}/modules.alias`), /^alias fs-ext4 ext4$/m);
  assert.equal(text(tree, "etc/modules"), "ext4\nxen_blkfront\n");
});

test("modules of the kernel itself are left out, unknown ones are named", () => {
  const tree = new RootTree();
  addModules(tree, { folder, release: "6.1-test" }, ["mbcache"]);
  assert.equal(text(tree, "lib/modules/6.1-test/modules.dep"), "");
  assert.throws(
    () => addModules(tree, { folder, release: "6.1-test" }, ["no-such"]),
    (error) => error instanceof PackageError && error.message === "kernel 6.1-test: has no module no_such",
  );
});
