import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { buildInitramfs, type InitramfsOptions } from "./initramfs.ts";
import { MirrorSource } from "./mirror.ts";
import { serveArchive, type TestArchive } from "./test-archive.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-initramfs-"));
const cacheBefore = process.env["XDG_CACHE_HOME"];
let archive: TestArchive;
let source: MirrorSource;
let lines: string[] = [];

before(async () => {
  process.env["XDG_CACHE_HOME"] = join(folder, "cache");
  archive = await serveArchive([
    { name: "busybox-static", contents: { "bin/busybox": "program [\0[[\0ash\0sh\0vi\0\x7f" } },
    {
      name: "tool",
      depends: "libtool",
      contents: { "usr/bin/tool": "#!/bin/sh\n", "usr/share/doc/tool/copyright": "x" },
    },
    { name: "libtool", contents: { "lib/x86_64-linux-gnu/libtool.so.1": "library" } },
    { name: "vim", contents: { "usr/bin/vi": "the real one" } },
  ]);
  writeFileSync(join(folder, "keys.asc"), archive.publicKey);
  source = await MirrorSource.open({ mirror: archive.url, suite: "testing", keyring: join(folder, "keys.asc") });
});
after(() => {
  archive.close();
  if (cacheBefore === undefined) delete process.env["XDG_CACHE_HOME"];
  else process.env["XDG_CACHE_HOME"] = cacheBefore;
  rmSync(folder, { recursive: true });
});

async function build(options: InitramfsOptions = {}) {
  lines = [];
  const path = await buildInitramfs(source, options, (line) => lines.push(line));
  return { path, text: readFileSync(path, "latin1") };
}

/** Names of the entries, as they stand behind their 110-byte headers. */
const names = (text: string): string[] =>
  [...text.matchAll(/070701[0-9a-f]{104}([^\0]+)\0/g)].map((match) => match[1]!);

test("busybox under all its names, an init and a console", async () => {
  const { text } = await build();
  const paths = names(text);
  for (const path of [
    "init",
    "dev/console",
    "proc",
    "etc/profile",
    "usr/bin/busybox",
    "usr/bin/ash",
    "usr/bin/[",
    "bin",
  ]) {
    assert.ok(paths.includes(path), path);
  }
  assert.match(text, /xeno: init reached/);
});

test("packages come with what they depend on and without their documents; their programs win over busybox", async () => {
  const { text } = await build({ packages: ["tool", "vim"] });
  const paths = names(text);
  assert.ok(paths.includes("usr/bin/tool"));
  assert.ok(paths.includes("usr/lib/x86_64-linux-gnu/libtool.so.1"));
  assert.ok(!paths.some((path) => path.startsWith("usr/share/doc")));
  assert.match(text, /the real one/);
});

test("the same again is found, not built; other contents are another file", async () => {
  const first = await build({ script: "#!/bin/sh\necho 1\n" });
  assert.equal(lines.filter((line) => line.startsWith("initramfs of")).length, 1);
  const again = await build({ script: "#!/bin/sh\necho 1\n" });
  assert.deepEqual([again.path, lines], [first.path, []]);
  const other = await build({ script: "#!/bin/sh\necho 2\n" });
  assert.notEqual(other.path, first.path);
  const own = await build({ customise: (tree) => tree.file("etc/own", "x") });
  assert.ok(names(own.text).includes("etc/own"));
});
