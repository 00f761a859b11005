import assert from "node:assert/strict";
import { linkSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, describe, test } from "node:test";
import type { BlockStore } from "@xenoserver/devices/block/store.ts";
import fc from "fast-check";
import { openImage, StorageError } from "../index.ts";
import { checkAgainstModel, operations, pattern, readAll } from "../testing/store-suite.ts";
import { canPunchHoles, joined } from "./punch-hole.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-raw-"));
after(() => rmSync(folder, { recursive: true }));
const opened: BlockStore[] = [];
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});

let files = 0;
function file(sizeBytes: number): string {
  const path = join(folder, `${files++}.raw`);
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  return path;
}

async function open(path: string, readOnly = false): Promise<BlockStore> {
  const store = await openImage(path, { format: "raw", readOnly });
  opened.push(store);
  return store;
}

const MIB = 1 << 20;

test("any operations leave what they should", async () => {
  await fc.assert(
    fc.asyncProperty(operations(4096, ["write", "write", "read", "flush", "reopen"]), async (steps) => {
      const path = file(2 * MIB);
      const store = await checkAgainstModel(
        () => openImage(path, { format: "raw", readOnly: false }),
        new Uint8Array(2 * MIB),
        steps,
      );
      await store.close();
    }),
    { numRuns: 30 },
  );
});

test("more buffers than one system call takes", async () => {
  const store = await open(file(2 * MIB));
  const bytes = pattern(0, 3000, 1);
  const parts = Array.from({ length: 3000 }, (_, n) => bytes.subarray(n * 512, (n + 1) * 512));
  await store.write(0, parts);
  const back = Array.from({ length: 3000 }, () => new Uint8Array(512));
  await store.read(0, back);
  assert.deepEqual(Buffer.concat(back), Buffer.from(bytes));
});

test("discarded ranges give their space back", {
  skip: canPunchHoles() ? false : "fallocate is not installed",
}, async () => {
  const path = file(4 * MIB);
  const store = await open(path);
  await store.write(0, [new Uint8Array(4 * MIB).fill(1)]);
  await store.flush();
  const before = statSync(path).blocks;
  await Promise.all(Array.from({ length: 64 }, (_, n) => store.discard(n * 32768, 32768)));
  await store.flush();
  assert.ok(statSync(path).blocks < before, `${statSync(path).blocks} blocks of ${before}`);
  assert.deepEqual(await readAll(store, 2 * MIB, MIB), new Uint8Array(MIB).fill(1));
});

test("ranges are joined where they touch", () => {
  const ranges = [
    { start: 8, end: 12 },
    { start: 0, end: 4 },
    { start: 4, end: 6 },
    { start: 10, end: 11 },
  ];
  assert.deepEqual(joined(ranges), [
    { start: 0, end: 6 },
    { start: 8, end: 12 },
  ]);
});

describe("opening", () => {
  const refused = (path: string, message: RegExp, readOnly = false) =>
    assert.rejects(open(path, readOnly), (error) => error instanceof StorageError && message.test(error.message));

  test("what is no disk is refused with a sentence", async () => {
    await refused(join(folder, "none"), /none: no such file$/);
    await refused(folder, /: is a folder$/);
    await refused("/dev/null", /: is neither a file nor a block device$/, true);
    await refused(file(100), /: is 100 bytes, expected at least 512$/);
  });

  test("a disk has one writer, whatever name it is opened by; readers do not mind", async () => {
    const path = file(MIB);
    const other = join(folder, "other-name.raw");
    linkSync(path, other);
    const store = await open(path);
    await refused(other, /: is in use by another domain, which writes it$/);
    await open(path, true);
    await store.close();
    opened.splice(opened.indexOf(store), 1);
    await open(other);
  });

  test("a file whose end is no whole sector is shown without it", async () => {
    assert.equal((await open(file(1000))).info.sizeBytes, 512);
  });
});

test("a file that was made shorter behind our back fails the read", async () => {
  const path = file(MIB);
  const store = await open(path);
  truncateSync(path, 4096);
  await assert.rejects(readAll(store, 0, 8192), /: ends at byte 4096, expected more$/);
});
