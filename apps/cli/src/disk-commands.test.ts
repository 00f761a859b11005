import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { parseSize } from "./store-access.ts";
import { xeno } from "./test-process.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-images-"));
after(() => rmSync(folder, { recursive: true }));
const env = { XENO_STORE: join(folder, "store") };

const run = async (...args: string[]) => {
  const { status, stdout, stderr } = await xeno(args, { env });
  return { status, stdout, stderr };
};

test("a file becomes an image, the image a file", async () => {
  const [file, back] = [join(folder, "disk.raw"), join(folder, "back.raw")];
  const bytes = Buffer.alloc(1 << 20);
  bytes.write("begin", 0);
  bytes.write("end", bytes.length - 3);
  writeFileSync(file, bytes);
  const imported = await run("image", "import", file, "debian:12");
  assert.match(imported.stdout, /^debian:12 [0-9a-f]{16} 1\.0 MiB \(raw\)\n$/);
  assert.match((await run("image", "ls")).stdout, /^debian:12 [0-9a-f]{16} 1\.0 MiB\n$/);
  assert.equal((await run("image", "export", "debian:12", back)).status, 0);
  assert.deepEqual(readFileSync(back), bytes);
  assert.equal((await run("image", "export", "--format", "qcow2", "debian:12", join(folder, "back.qcow2"))).status, 0);
  assert.match((await run("image", "import", join(folder, "back.qcow2"), "again")).stdout, /\(qcow2\)/);
  assert.equal((await run("image", "rm", "debian:12")).status, 0);
  assert.equal((await run("image", "rm", "again")).status, 0);
  assert.match((await run("image", "gc", "--now")).stdout, /^0 chunks are needed, 4 are not any more, 4 were deleted/);
});

test("mistakes are told in a sentence, with status 1", async () => {
  const { status, stderr } = await run("image", "rm", "none");
  assert.deepEqual([status, stderr], [1, "xeno: image none: there is none of this name\n"]);
  const missing = await run("image", "import", join(folder, "none"), "x");
  assert.match(missing.stderr, /none: no such file\n$/);
});

test("an empty disk", async () => {
  const file = join(folder, "new.raw");
  assert.equal((await run("disk", "create", file, "3M")).status, 0);
  assert.equal(statSync(file).size, 3 << 20);
  assert.match((await run("disk", "create", file, "3M")).stderr, /new\.raw: is there already/);
  assert.equal((await run("disk", "create", file, "big")).status, 2);
  assert.equal(parseSize("1.5k"), 1536);
});
