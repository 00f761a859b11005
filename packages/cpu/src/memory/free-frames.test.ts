/** Frames that a guest gave back, until they are used again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DomainMemory } from "./domain-memory.ts";
import type { Frame } from "./guest-memory.ts";

const FRAMES = 8;
function full(): DomainMemory {
  const memory = DomainMemory.create(1, FRAMES);
  for (let n = 0; n < FRAMES; n++) memory.frameBytes(memory.allocateFrame()).fill(n + 1);
  return memory;
}

test("a frame is zeroed when it is taken again, whatever was written to it after it was given back", () => {
  const memory = full();
  memory.freeFrame(3 as Frame);
  memory.frameBytes(3 as Frame).fill(0xff);
  assert.equal(memory.allocateFrame(), 3);
  assert.ok(memory.isZero(3 as Frame));
  assert.throws(() => memory.allocateFrame(), /no frame is left/);
});

test("only what was set apart becomes clean, in ascending order, and clean frames are taken first", () => {
  const memory = full();
  for (const frame of [5, 2, 4]) memory.freeFrame(frame as Frame);
  assert.equal(memory.hasFreed, true);
  memory.free.setApart();
  assert.equal(memory.hasFreed, false);
  memory.freeFrame(7 as Frame);
  const cleaned: number[] = [];
  const clean = (frames: readonly Frame[]): void => {
    for (const frame of frames) memory.frameBytes(frame).fill(0);
    cleaned.push(...frames);
  };
  assert.equal(memory.free.clean(2, clean), true);
  assert.equal(memory.free.clean(2, clean), false);
  assert.equal(cleaned.length, 3);
  assert.ok(!cleaned.includes(7));
  assert.deepEqual(cleaned.slice(0, 2), cleaned.slice(0, 2).toSorted());
  const taken = [1, 2, 3, 4].map(() => memory.allocateFrame());
  assert.deepEqual(taken.slice(0, 3).toSorted(), [2, 4, 5]);
  assert.equal(taken[3], 7);
  assert.ok(taken.every((frame) => memory.isZero(frame)));
});

test("a frame that was set apart can be taken before it is clean", () => {
  const memory = full();
  memory.freeFrame(6 as Frame);
  memory.free.setApart();
  assert.equal(memory.allocateFrame(), 6);
  assert.equal(
    memory.free.clean(8, (frames) => assert.deepEqual(frames, [])),
    false,
  );
});
