import assert from "node:assert/strict";
import { test } from "node:test";
import { readTar } from "../deb/tar.ts";
import { appletNames } from "./initramfs.ts";
import { RootTree } from "./root-tree.ts";
import { makeTar } from "./test-archive.ts";

const text = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString();

test("packages of old and new layouts meet in /usr", () => {
  const tree = new RootTree();
  tree.addPackage(readTar(makeTar({ "lib/": "", "lib/x86_64-linux-gnu/libc.so.6": "old", "bin/sh": "->dash" })));
  tree.addPackage(readTar(makeTar({ "usr/lib/x86_64-linux-gnu/libm.so.6": "new", lib: "->usr/lib" })));
  assert.equal(text(tree.read("lib/x86_64-linux-gnu/libm.so.6")), "new");
  assert.equal(text(tree.read("usr/lib/x86_64-linux-gnu/libc.so.6")), "old");
  assert.ok(tree.has("bin/sh"));
});

test("equal trees give equal archives whatever the order", () => {
  const [a, b] = [new RootTree(), new RootTree()];
  a.file("etc/x", "1");
  a.directory("proc");
  b.directory("proc");
  b.file("etc/x", "1");
  assert.deepEqual(a.toNewc(), b.toNewc());
});

test("whole folders can be dropped", () => {
  const tree = new RootTree();
  tree.file("usr/share/doc/x/copyright", "");
  tree.file("usr/share/docs", "kept");
  tree.remove("usr/share/doc");
  assert.ok(!tree.has("usr/share/doc/x"));
  assert.ok(tree.has("usr/share/docs"));
});

test("busybox's names are found in its program", () => {
  const program = Buffer.from("noise[\0[[\0?\0 more \x01[\0[[\0acpid\0ash\0sh\0zcat\0\x7f\0after");
  assert.deepEqual(appletNames(program), ["[", "[[", "acpid", "ash", "sh", "zcat"]);
  assert.throws(() => appletNames(Buffer.from("[\0[[\0ls\0")), /its table of names was not found/);
});
