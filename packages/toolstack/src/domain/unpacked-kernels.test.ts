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
import { UnpackedKernels } from "./unpacked-kernels.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-unpacked-"));
after(() => rmSync(folder, { recursive: true }));

const packed = (n: number) => new Uint8Array(100).fill(n);
const unpacked = (n: number) => new Uint8Array(5000).fill(n + 100);
const fresh = (name: string) => ({ kernels: new UnpackedKernels(join(folder, name)), path: join(folder, name) });
const onlyFile = (path: string): string => join(path, readdirSync(path)[0]!);

test("a kernel that was unpacked is found by what it was packed as", () => {
  const { kernels, path } = fresh("found");
  assert.equal(kernels.find(packed(1)), undefined);
  kernels.keep(packed(1), unpacked(1));
  assert.deepEqual(kernels.find(packed(1)), unpacked(1));
  assert.equal(kernels.find(packed(2)), undefined);
  assert.deepEqual(readdirSync(path).length, 1, "no part of a file is left");
});

test("a file that is damaged, or that others may write, is not taken", () => {
  const { kernels, path } = fresh("damaged");
  kernels.keep(packed(1), unpacked(1));
  const file = onlyFile(path);
  const whole = readFileSync(file);
  for (const damage of [
    () => writeFileSync(file, whole.with(3000, 7)),
    () => truncateSync(file, 4000),
    () => truncateSync(file, 2),
    () => chmodSync(file, 0o666),
  ]) {
    writeFileSync(file, whole);
    assert.deepEqual(kernels.find(packed(1)), unpacked(1));
    damage();
    assert.equal(kernels.find(packed(1)), undefined);
  }
});

test("few are kept: those that were used last", () => {
  const { kernels, path } = fresh("few");
  for (let n = 1; n <= 4; n++) {
    kernels.keep(packed(n), unpacked(n));
    for (const name of readdirSync(path)) utimesSync(join(path, name), 1000 + n, 1000 + n);
  }
  assert.ok(kernels.find(packed(2)));
  kernels.keep(packed(5), unpacked(5));
  assert.equal(readdirSync(path).length, 4);
  assert.ok(kernels.find(packed(2)) && kernels.find(packed(5)));
});

test("where no folder can be made, nothing is kept and nothing fails", () => {
  writeFileSync(join(folder, "file"), "");
  const kernels = new UnpackedKernels(join(folder, "file"));
  kernels.keep(packed(1), unpacked(1));
  assert.equal(kernels.find(packed(1)), undefined);
});
