import assert from "node:assert/strict";
import { test } from "node:test";
import type { Gfn } from "../engine.ts";
import { DomainMemory } from "./domain-memory.ts";

const FRAMES = 3000;

test("fresh frames are mapped one behind the other, also over parts of the map", () => {
  const memory = DomainMemory.create(1, FRAMES);
  memory.allocateFrame();
  memory.mapFresh(1000 as Gfn, 1500);
  memory.mapFresh(0x100000 as Gfn, 10);
  assert.equal(memory.frameAt(999 as Gfn), -1);
  for (let n = 0; n < 1500; n++) assert.equal(memory.frameAt((1000 + n) as Gfn), 1 + n);
  assert.equal(memory.frameAt(2500 as Gfn), -1);
  assert.equal(memory.frameAt(0x100009 as Gfn), 1510);
  assert.equal(memory.allocateFrame(), 1511);
});

test("more than there are cannot be mapped, and are not used up", () => {
  const memory = DomainMemory.create(1, FRAMES);
  assert.throws(() => memory.mapFresh(0 as Gfn, FRAMES + 1), /no frame is left/);
  assert.equal(memory.usedFrames, 0);
  memory.mapFresh(0 as Gfn, FRAMES);
  assert.throws(() => memory.allocateFrame(), /no frame is left/);
});
