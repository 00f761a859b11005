/** Maps of memory that somebody else wrote. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Gfn } from "../engine.ts";
import { DomainMemory } from "./domain-memory.ts";
import type { Frame } from "./guest-memory.ts";

const fresh = (): DomainMemory => DomainMemory.create(1, 64);
function link(memory: DomainMemory, frame: number, next: number): void {
  const bytes = memory.frameBytes(frame as Frame);
  new DataView(bytes.buffer, bytes.byteOffset).setInt32(0, next, true);
}

test("free frames are the same after a map was saved and loaded", () => {
  const before = fresh();
  for (let n = 0; n < 4; n++) before.mapFrame((n + 16) as Gfn, before.allocateFrame());
  for (const frame of [1, 2]) {
    before.unmapFrame((frame + 16) as Gfn);
    before.freeFrame(frame as Frame);
  }
  const after = fresh();
  after.loadMap(before.saveMap());
  for (let frame = 0; frame < 4; frame++) after.frameBytes(frame as Frame).set(before.frameBytes(frame as Frame));
  after.checkFreeList();
  assert.deepEqual([after.allocateFrame(), after.allocateFrame(), after.allocateFrame()], [2, 1, 4]);
  assert.equal(after.frameAt(19 as Gfn), 3);
});

test("a list of free frames that leaves memory, or has no end, is refused", () => {
  for (const next of [0x7ffffff0, 5, -1, 1]) {
    const memory = fresh();
    memory.loadMap(Int32Array.from([4, 1]));
    link(memory, 0, next);
    assert.throws(() => memory.checkFreeList(), RangeError, `next ${next}`);
  }
});

test("a frame that was never handed out cannot be mapped", () => {
  assert.throws(() => fresh().loadMap(Int32Array.from([1, 0, 5, 1])), /frame 1, expected one of 1/);
});
