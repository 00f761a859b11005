/** File systems that we write, judged by e2fsprogs. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { Content } from "../files/content.ts";
import { contentOf } from "../files/content.ts";
import { type FileNode, type FileOwner, FileTree, ROOT_OWNED } from "../files/file-tree.ts";
import { checkExt4, debugfs, missingE2fsprogs, withDiskFile } from "../testing/e2fsprogs.ts";
import { Ext4Image } from "./ext4-image.ts";

const UUID = Buffer.from("0123456789abcdef0123456789abcdef", "hex");
const MIB = 1 << 20;
let missing: string | undefined;

before(async () => {
  missing = await missingE2fsprogs();
});

const file = (data: Uint8Array | string | Content, owner: Partial<FileOwner> = {}): FileNode => ({
  type: "file",
  owner: { ...ROOT_OWNED, mode: 0o644, ...owner },
  content: typeof data === "string" || data instanceof Uint8Array ? contentOf(data) : data,
});

/** Bytes that tell where they are, of any number. */
const counting = (sizeBytes: number): Content => ({
  sizeBytes,
  read: async (at, into) => {
    for (let n = 0; n < into.length; n++) into[n] = ((at + n) >> 9) % 251;
  },
});

const make = (tree: FileTree, sizeBytes: number): Ext4Image =>
  Ext4Image.make(tree, { sizeBytes, uuid: UUID, label: "root" });

test("files, owners, links, devices and attributes are what the tree says", async (t) => {
  if (missing !== undefined) return t.skip(missing);
  const tree = new FileTree();
  tree.put("etc/hello", file("hello\n", { uid: 70000, gid: 5, mode: 0o4750, mtime: 1_000_000_000 }));
  tree.put("etc/hello-again", tree.get("etc/hello")!);
  tree.put("etc/short", { type: "symlink", owner: { ...ROOT_OWNED, mode: 0o777 }, target: "hello" });
  tree.put("etc/long", { type: "symlink", owner: { ...ROOT_OWNED, mode: 0o777 }, target: `/${"x".repeat(200)}` });
  tree.put("dev/null", { type: "char-device", owner: { ...ROOT_OWNED, mode: 0o666 }, major: 1, minor: 3 });
  tree.put("dev/far", { type: "block-device", owner: ROOT_OWNED, major: 259, minor: 300 });
  tree.put("run/fifo", { type: "fifo", owner: ROOT_OWNED });
  const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");
  tree.put("bin/ping", file("ping", { xattrs: new Map([["security.capability", capability]]) }));
  tree.put("odd \u{1f600}\tname", file("odd"));
  await withDiskFile(make(tree, 64 * MIB), async (path) => {
    await checkExt4(path);
    const stat = await debugfs(path, "stat /etc/hello");
    assert.match(stat, /Mode:\s+04750/);
    assert.match(stat, /User:\s+70000\s+Group:\s+5\s.*Size: 6/s);
    assert.match(stat, /Links: 2/);
    assert.match(stat, /mtime: 0x3b9aca00/);
    assert.equal(await debugfs(path, "cat /etc/hello-again"), "hello\n");
    assert.match(await debugfs(path, "stat /etc/short"), /Fast link dest: "hello"/);
    assert.equal(await debugfs(path, "cat /etc/long"), `/${"x".repeat(200)}`);
    assert.match(await debugfs(path, "stat /dev/null"), /Device major\/minor number: 01:03/);
    assert.match(await debugfs(path, "stat /dev/far"), /Device major\/minor number: 259:300/);
    assert.match(await debugfs(path, "stat /run/fifo"), /Type: FIFO/);
    assert.match(await debugfs(path, "ea_list /bin/ping"), /security\.capability \(20\)/);
  });
});

test("a file across groups, and folders of many files", async (t) => {
  if (missing !== undefined) return t.skip(missing);
  const tree = new FileTree();
  for (let n = 0; n < 3000; n++) tree.put(`many/file-${n}`, file(`${n}`));
  tree.put("big", file(counting(300 * MIB)));
  const disk = make(tree, 512 * MIB);
  await withDiskFile(disk, async (path) => {
    await checkExt4(path);
    assert.match(await debugfs(path, "stat /big"), /Size: 314572800/);
    assert.equal(await debugfs(path, "cat /many/file-2999"), "2999");
  });
});

test("any sizes of disks and numbers of files are whole", async (t) => {
  if (missing !== undefined) return t.skip(missing);
  for (const [mib, files] of [
    [8, 0],
    [8, 900],
    [129, 10],
    [1025, 20_000],
  ] as const) {
    const tree = new FileTree();
    for (let n = 0; n < files; n++) tree.put(`d${n % 37}/f${n}`, file(n % 3 === 0 ? "" : `${n}`));
    await withDiskFile(make(tree, mib * MIB), checkExt4);
  }
});

test("what is said to be a hole reads as zeros, and most of an empty disk is one", async () => {
  const tree = new FileTree();
  tree.put("a", file(counting(200_000)));
  const disk = make(tree, 64 * MIB);
  let holes = 0;
  for (let at = 0; at < 64 * MIB; at += 65536) {
    const bytes = Buffer.alloc(65536, 1);
    await disk.read(at, [bytes]);
    if (!disk.isHole(at, 65536)) continue;
    holes++;
    assert.ok(
      bytes.every((byte) => byte === 0),
      `at ${at}`,
    );
  }
  assert.ok(holes > 1000, `${holes} of 1024`);
});

test("equal trees give equal disks", async () => {
  const disk = (): Ext4Image => {
    const tree = new FileTree();
    tree.put("a/b", file("b"));
    return make(tree, 8 * MIB);
  };
  const [one, other] = [new Uint8Array(8 * MIB), new Uint8Array(8 * MIB)];
  await disk().read(0, [one]);
  await disk().read(0, [other.subarray(0, 1000), other.subarray(1000)]);
  assert.ok(Buffer.from(one).equals(other));
});

test("what does not fit is refused", () => {
  const tree = new FileTree();
  tree.put("big", file(counting(64 * MIB)));
  assert.throws(
    () => make(tree, 32 * MIB),
    /file system: the files do not fit into 33554432 bytes, expected a larger size/,
  );
  assert.throws(() => make(new FileTree(), 100 << 10), /expected more/);
});
