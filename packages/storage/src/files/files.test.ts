/** Archives into trees: layers, whiteouts, and what a stranger's archive may say. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Header, pack } from "tar-stream";
import { readContent, Spool } from "./content.ts";
import { FileTree, walkTree } from "./file-tree.ts";
import { addTar } from "./tar.ts";

type Entry = Partial<Header> & { readonly name: string; readonly data?: string };

function tar(entries: readonly Entry[]): AsyncIterable<Uint8Array> {
  const archive = pack();
  for (const { data, ...header } of entries) archive.entry(header, data ?? "");
  archive.finalize();
  return archive as AsyncIterable<Uint8Array>;
}

const folder = (name: string): Entry => ({ name, type: "directory" });
const link = (name: string, linkname: string): Entry => ({ name, type: "symlink", linkname });

let spool: Spool;
before(async () => {
  spool = await Spool.create(1 << 20);
});
after(() => spool.close());

async function layers(...archives: readonly (readonly Entry[])[]): Promise<FileTree> {
  const tree = new FileTree();
  for (const entries of archives) await addTar(tree, tar(entries), spool, { name: "test.tar", whiteouts: true });
  return tree;
}

const names = (tree: FileTree): string[] => [...walkTree(tree.root)].map(([path]) => path).sort();
async function text(tree: FileTree, path: string): Promise<string> {
  const { content } = tree.file(path)!;
  return Buffer.from(await readContent(content, 1000, path)).toString();
}

test("a file's bytes, owner and time come with it", async () => {
  const mtime = new Date(1_700_000_000_000);
  const tree = await layers([{ name: "./a/b", data: "hello", uid: 7, gid: 8, mode: 0o4711, mtime }]);
  assert.deepEqual(names(tree), ["a", "a/b"]);
  assert.equal(await text(tree, "a/b"), "hello");
  assert.deepEqual(tree.get("a/b")!.owner, { mode: 0o4711, uid: 7, gid: 8, mtime: 1_700_000_000 });
});

test("a spool has no name while it is in use", async () => {
  const before = process.env["TMPDIR"];
  const own = mkdtempSync(join(tmpdir(), "xeno-files-"));
  process.env["TMPDIR"] = own;
  try {
    const nameless = await Spool.create(10);
    assert.deepEqual(readdirSync(own), []);
    await nameless.close();
  } finally {
    if (before === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = before;
    rmSync(own, { recursive: true });
  }
});

describe("layers", () => {
  test("later ones go on top, through links of earlier ones", async () => {
    const tree = await layers(
      [folder("usr/lib"), link("lib", "usr/lib"), { name: "lib/one", data: "1" }],
      [
        { name: "lib/two", data: "2" },
        { name: "lib/one", data: "one" },
      ],
    );
    assert.deepEqual(names(tree), ["lib", "usr", "usr/lib", "usr/lib/one", "usr/lib/two"]);
    assert.equal(await text(tree, "/lib/one"), "one");
  });

  test("a whiteout takes away what is below, and not what its own layer has", async () => {
    const tree = await layers(
      [
        { name: "d/old", data: "" },
        { name: "d/kept", data: "" },
        { name: "x/y/z", data: "" },
      ],
      [{ name: "d/.wh.old" }, { name: "d/new", data: "" }, { name: "d/.wh.new" }, { name: ".wh.x" }],
    );
    assert.deepEqual(names(tree), ["d", "d/kept", "d/new"]);
  });

  test("an opaque directory hides all that is below, wherever in the layer it says so", async () => {
    const tree = await layers(
      [
        { name: "d/a/old", data: "" },
        { name: "d/b", data: "" },
      ],
      [folder("d"), { name: "d/a/new", data: "" }, { name: "d/.wh..wh..opq" }],
    );
    assert.deepEqual(names(tree), ["d", "d/a", "d/a/new"]);
  });

  test("a file in place of a folder, and a folder in place of a file", async () => {
    const tree = await layers(
      [
        { name: "a/b", data: "" },
        { name: "c", data: "" },
      ],
      [{ name: "a", data: "file" }, folder("c"), { name: "c/d", data: "" }],
    );
    assert.deepEqual(names(tree), ["a", "c", "c/d"]);
  });

  test("without whiteouts such names are files", async () => {
    const tree = new FileTree();
    await addTar(tree, tar([{ name: ".wh.x", data: "" }]), spool, { name: "test.tar" });
    assert.deepEqual(names(tree), [".wh.x"]);
  });
});

describe("a stranger's archive", () => {
  const refused: readonly (readonly [string, readonly Entry[], RegExp])[] = [
    [
      "a name that leads up",
      [{ name: "../../tmp/evil", data: "" }],
      /^test.tar: \.\.\/\.\.\/tmp\/evil: expected a path/,
    ],
    ["a hard link that leads up", [{ name: "x", type: "link", linkname: "../../etc/passwd" }], /links to/],
    ["a hard link to nothing", [{ name: "x", type: "link", linkname: "etc/passwd" }], /which is no file/],
    ["a loop of links", [link("a", "b"), link("b", "a"), { name: "a/x", data: "" }], /is no directory/],
    [
      "a file in a file",
      [
        { name: "a", data: "" },
        { name: "a/x", data: "" },
      ],
      /a: is no directory/,
    ],
    ["a name of 300 bytes", [{ name: `d/${"n".repeat(300)}`, data: "" }], /more than 255 bytes/],
    ["more bytes than are wanted", [{ name: "x", data: "x".repeat(2 << 20) }], /more than 1048576 bytes/],
  ];
  for (const [what, entries, message] of refused) {
    test(`${what} is refused`, () => assert.rejects(layers(entries), { name: "StorageError", message }));
  }

  test("links lead nowhere but into the tree", async () => {
    const target = `/tmp/xeno-never-${process.pid}`;
    const tree = await layers([link("out", target), folder(target), { name: "out/file", data: "in the tree" }]);
    assert.equal(existsSync(target), false);
    assert.equal(await text(tree, `${target}/file`), "in the tree");
    const up = await layers([link("up", "../../../.."), { name: "up/etc/x", data: "" }]);
    assert.deepEqual(names(up), ["etc", "etc/x", "up"]);
  });

  test("what is no archive, or is cut off, is named", async () => {
    const junk = async function* () {
      yield Buffer.alloc(2048, "junk");
    };
    await assert.rejects(addTar(new FileTree(), junk(), spool, { name: "junk" }), /^StorageError: junk: /);
    const cut = async function* () {
      const pieces: Uint8Array[] = [];
      for await (const piece of tar([{ name: "x", data: "x".repeat(5000) }])) pieces.push(piece);
      yield Buffer.concat(pieces).subarray(0, 3000);
    };
    await assert.rejects(addTar(new FileTree(), cut(), spool, { name: "cut" }), /^StorageError: cut: /);
  });
});
