import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { makeDeb, makeTar } from "../guest/test-archive.ts";
import { debEntries, findInDeb } from "./deb.ts";
import { readTar } from "./tar.ts";

const long = `usr/share/${"x".repeat(120)}/file`;
const contents = {
  "usr/": "",
  "usr/bin/tool": "hello",
  "usr/bin/alias": "->tool",
  [long]: "far away",
  "boot/vmlinuz-1": "kernel",
};

describe("packages", () => {
  for (const compression of ["gz", "zst", ""] as const) {
    test(`data ${compression || "uncompressed"}`, () => {
      const entries = [...debEntries(makeDeb(contents, compression), "p")];
      assert.deepEqual(
        entries.map(({ path, type, target, data, mode }) => [path, type, target, Buffer.from(data).toString(), mode]),
        [
          ["usr", "directory", "", "", 0o755],
          ["usr/bin/tool", "file", "", "hello", 0o644],
          ["usr/bin/alias", "symlink", "tool", "", 0o644],
          [long, "file", "", "far away", 0o644],
          ["boot/vmlinuz-1", "file", "", "kernel", 0o644],
        ],
      );
    });
  }

  test("one file is found by its path", () => {
    const entry = findInDeb(makeDeb(contents), "p", /^boot\/vmlinuz-/);
    assert.equal(Buffer.from(entry!.data).toString(), "kernel");
    assert.equal(findInDeb(makeDeb(contents), "p", /^nowhere/), undefined);
  });

  test("what is no package is named", () => {
    const deb = makeDeb(contents);
    assert.throws(() => [...debEntries(Buffer.from("hello"), "p")], /package p: is no Debian package/);
    assert.throws(() => [...debEntries(deb.subarray(0, 300), "p")], /package p: is no Debian package/);
    assert.throws(
      () => [...debEntries(Buffer.from(deb.toString("latin1").replace("data.tar.gz", "data.tar.br"), "latin1"), "p")],
      /data is data\.tar\.br, expected \.xz/,
    );
    const damaged = Buffer.from(deb).fill(0xff, deb.length - 60);
    assert.throws(() => [...debEntries(damaged, "p")], /package p:/);
  });
});

describe("tar", () => {
  test("paths that lead out of the root are refused", () => {
    assert.throws(() => [...readTar(makeTar({ "../etc/passwd": "x" }))], /expected a path without "\.\."/);
  });

  test("a header that is none is refused", () => {
    assert.throws(() => [...readTar(Buffer.alloc(512, 1))], /tar header at byte 0 has a wrong checksum/);
  });
});
