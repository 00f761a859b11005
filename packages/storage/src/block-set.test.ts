import assert from "node:assert/strict";
import { test } from "node:test";
import { BlockSet, SET_BLOCK_BYTES } from "./block-set.ts";

test("a set of blocks has what was added, once, and tells it in runs", () => {
  const set = new BlockSet(100 * SET_BLOCK_BYTES);
  assert.deepEqual([...set.runs(8)], []);
  set.addBytes(3 * SET_BLOCK_BYTES + 4095, 2);
  set.addBytes(31 * SET_BLOCK_BYTES, 10 * SET_BLOCK_BYTES);
  set.addBytes(40 * SET_BLOCK_BYTES, 512);
  set.add(99);
  assert.equal(set.size, 13);
  assert.deepEqual(
    [...set.runs(8)].map(({ first, count }) => [first, count]),
    [
      [3, 2],
      [31, 8],
      [39, 2],
      [99, 1],
    ],
  );
  assert.deepEqual([set.has(4), set.has(5), set.has(41), set.has(1e6)], [true, false, false, false]);
});

test("a set of blocks grows with its disk, and takes in another", () => {
  const [small, large] = [new BlockSet(512), new BlockSet(512)];
  small.add(0);
  large.add(5000);
  small.addAll(large);
  assert.deepEqual(
    [...small.runs(9)],
    [
      { first: 0, count: 1 },
      { first: 5000, count: 1 },
    ],
  );
});
