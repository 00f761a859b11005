import assert from "node:assert/strict";
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import type { ImageBytes } from "@xenoserver/xen/builder/index.ts";
import { UnpackedKernels } from "./unpacked-kernels.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-unpacked-"));
after(() => rmSync(folder, { recursive: true }));

const MIB = 1 << 20;
const unpacked = (n: number) => Buffer.alloc(MIB + 5000, `content ${n} `);
const packed = (n: number) => gzipSync(unpacked(n));
const whole = (found: ImageBytes | undefined): Buffer => {
  assert.ok(found);
  const bytes = Buffer.alloc(found.length);
  found.copyTo(bytes, 0);
  found.release();
  return bytes;
};
const fresh = (name: string) => ({ kernels: new UnpackedKernels(join(folder, name)), path: join(folder, name) });
const onlyFile = (path: string): string => join(path, readdirSync(path)[0]!);

test("a kernel that was unpacked is found by what it was packed as", () => {
  const { kernels, path } = fresh("found");
  assert.equal(kernels.find(packed(1)), undefined);
  kernels.keep(packed(1), unpacked(1));
  assert.deepEqual(whole(kernels.find(packed(1))), unpacked(1));
  assert.equal(kernels.find(packed(2)), undefined);
  assert.deepEqual(readdirSync(path).length, 1, "no part of a file is left");
});

test("any part of it can be read", () => {
  const { kernels } = fresh("parts");
  kernels.keep(packed(1), unpacked(1));
  const found = kernels.find(packed(1))!;
  for (const [from, length] of [
    [0, 64],
    [MIB / 4 - 3, 6],
    [MIB / 4, MIB / 2],
    [10, MIB],
    [MIB + 4999, 1],
  ] as const)
    assert.deepEqual(Buffer.from(found.read(from, length)), unpacked(1).subarray(from, from + length));
  found.release();
});

test("a file that is cut, or that others may write, is not taken", () => {
  const { kernels, path } = fresh("cut");
  kernels.keep(packed(1), unpacked(1));
  const file = onlyFile(path);
  const kept = readFileSync(file);
  for (const damage of [
    () => truncateSync(file, 4000),
    () => truncateSync(file, 2),
    () => writeFileSync(file, kept.with(kept.length - 6, 7)),
    () => chmodSync(file, 0o666),
  ]) {
    writeFileSync(file, kept);
    assert.deepEqual(whole(kernels.find(packed(1))), unpacked(1));
    damage();
    assert.equal(kernels.find(packed(1)), undefined);
  }
});

test("of a file that is damaged within nothing is taken, and it is removed", () => {
  const { kernels, path } = fresh("damaged");
  for (const at of [3, MIB / 2, MIB + 4000]) {
    kernels.keep(packed(1), unpacked(1));
    const file = onlyFile(path);
    const kept = readFileSync(file);
    writeFileSync(file, kept.with(at, kept[at]! + 1));
    assert.deepEqual(whole(kernels.find(packed(1))), unpacked(1));
    assert.deepEqual(readdirSync(path), []);
  }
});

test("few are kept: those that were used last", () => {
  const { kernels, path } = fresh("few");
  for (let n = 1; n <= 4; n++) {
    kernels.keep(packed(n), unpacked(n));
    for (const name of readdirSync(path)) utimesSync(join(path, name), 1000 + n, 1000 + n);
  }
  whole(kernels.find(packed(2)));
  kernels.keep(packed(5), unpacked(5));
  assert.equal(readdirSync(path).length, 4);
  for (const n of [2, 5]) assert.deepEqual(whole(kernels.find(packed(n))), unpacked(n));
});

test("where no folder can be made, nothing is kept and nothing fails", () => {
  writeFileSync(join(folder, "file"), "");
  const kernels = new UnpackedKernels(join(folder, "file"));
  kernels.keep(packed(1), unpacked(1));
  assert.equal(kernels.find(packed(1)), undefined);
});
