/** Maps of memory that somebody else wrote. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Gfn } from "../engine.ts";
import { DomainMemory } from "./domain-memory.ts";
import type { Frame } from "./guest-memory.ts";

const fresh = (): DomainMemory => DomainMemory.create(1, 64);

test("free frames are the same after a map was saved and loaded", () => {
  const before = fresh();
  for (let n = 0; n < 4; n++) before.mapFrame((n + 16) as Gfn, before.allocateFrame());
  for (const frame of [1, 2]) {
    before.unmapFrame((frame + 16) as Gfn);
    before.freeFrame(frame as Frame);
  }
  const after = fresh();
  after.loadMap(before.saveMap());
  assert.deepEqual([after.allocateFrame(), after.allocateFrame(), after.allocateFrame()], [2, 1, 4]);
  assert.equal(after.frameAt(19 as Gfn), 3);
});

test("a map takes the place of one that was loaded before", () => {
  const [before, after] = [fresh(), fresh()];
  for (let n = 0; n < 4; n++) before.mapFrame((n + 16) as Gfn, before.allocateFrame());
  before.freeFrame(3 as Frame);
  after.loadMap(before.saveMap());
  before.allocateFrame();
  before.unmapFrame(17 as Gfn);
  before.mapFrame(99 as Gfn, 1 as Frame);
  after.loadMap(before.saveMap());
  assert.deepEqual(
    [16, 17, 18, 19, 99].map((gfn) => after.frameAt(gfn as Gfn)),
    [0, -1, 2, 3, 1],
  );
  assert.equal(after.allocateFrame(), 4);
  assert.deepEqual(after.saveMap().subarray(2), before.saveMap().subarray(2));
});

test("free frames that are none, or are named twice, are refused", () => {
  const load = (words: readonly number[]) => () => fresh().loadMap(Int32Array.from(words));
  for (const frame of [0x7fffffff, 4, -1]) assert.throws(load([4, 1, frame]), /expected one of 4/);
  assert.throws(load([4, 2, 1, 1]), /frame 1 is free twice/);
  for (const [count, ...rest] of [[5], [-1, 0], [1], [2, 0, 1, 2]])
    assert.throws(load([4, count!, ...rest]), RangeError);
});

test("a frame that was never handed out cannot be mapped", () => {
  assert.throws(() => fresh().loadMap(Int32Array.from([1, 0, 5, 1])), /frame 1, expected one of 1/);
});
