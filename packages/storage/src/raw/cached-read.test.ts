import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { pattern } from "../testing/store-suite.ts";
import { CachedReader, canReadCached } from "./cached-read.ts";
import { RandomAccessFile } from "./file.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-cached-"));
const path = join(folder, "file");
const bytes = pattern(0, 16, 3);
writeFileSync(path, bytes);
const fd = openSync(path, "r");
after(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});
const skip = canReadCached() ? false : "this host or its C library has no preadv2";

/** Parts of a domain's memory, with other bytes between them. */
function guestPages(count: number, lengthBytes: number): Uint8Array[] {
  const memory = new Uint8Array(new SharedArrayBuffer(count * 2 * lengthBytes)).fill(0xee);
  return Array.from({ length: count }, (_, n) => memory.subarray(n * 2 * lengthBytes, (n * 2 + 1) * lengthBytes));
}

test("what was just written is read at once into pages of shared memory, and nowhere else", { skip }, () => {
  const pages = guestPages(4, 1024);
  assert.equal(new CachedReader(fd).read(512, pages), 4096);
  assert.deepEqual(Buffer.concat(pages), Buffer.from(bytes.subarray(512, 512 + 4096)));
  const between = new Uint8Array(pages[0]!.buffer, 1024, 1024);
  assert.ok(between.every((byte) => byte === 0xee));
});

test("memory that may move is left to reads that copy", { skip }, () => {
  const into = new Uint8Array(512).fill(7);
  assert.equal(new CachedReader(fd).read(0, [...guestPages(1, 512), into]), 0);
  assert.ok(into.every((byte) => byte === 7));
});

test("a file that ends within the buffers is told of as by any other read", async () => {
  const file = await RandomAccessFile.open(path, { readOnly: true });
  const pages = guestPages(2, 512);
  await assert.rejects(file.read(bytes.length - 512, pages), /ends at byte 8192, expected more/);
  assert.deepEqual(Buffer.from(pages[0]!), Buffer.from(bytes.subarray(-512)));
  await file.close();
});

test("after reads that had to wait, more and more are not tried, until one did not", { skip }, () => {
  const reader = new CachedReader(fd);
  const pages = guestPages(1, 512);
  const tries = (offset: number): number => reader.read(offset, pages);
  assert.equal(tries(1 << 20), 0);
  assert.equal(tries(0), 0);
  assert.equal(tries(1 << 20), 0);
  assert.deepEqual([tries(0), tries(0), tries(0)], [0, 0, 0]);
  assert.deepEqual([tries(0), tries(0)], [512, 512]);
});
