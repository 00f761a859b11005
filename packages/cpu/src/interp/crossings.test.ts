import assert from "node:assert/strict";
import { test } from "node:test";
import type { CodeKey } from "./code-index.ts";
import { type Crossing, Crossings } from "./crossings.ts";

const crossing = (frame: number, nextFrame: number, offset: number, record = 0): Crossing => ({
  frame,
  nextFrame,
  offset,
  view: 0,
  record,
  key: 0 as CodeKey,
});

test("an instruction over two pages is taken out by a store into either part, and by no other", () => {
  const crossings = new Crossings();
  const one = crossing(3, 7, 4090);
  crossings.put(one);
  assert.deepEqual(crossings.take(3, 0, 4090), []);
  assert.deepEqual(crossings.take(7, 16, 4096), []);
  assert.deepEqual(crossings.take(5, 0, 4096), []);
  assert.equal(crossings.at(3, 4090), one);
  assert.deepEqual(crossings.take(7, 15, 16), [one]);
  assert.equal(crossings.at(3, 4090), undefined);
  crossings.put(one);
  assert.deepEqual(crossings.take(3, 4090, 4091), [one]);
  assert.deepEqual([crossings.rangesOf(3), crossings.rangesOf(7)], [[], []]);
});

test("a page behind itself is looked at in both parts", () => {
  const crossings = new Crossings();
  const one = crossing(3, 3, 4095);
  crossings.put(one);
  assert.deepEqual(crossings.rangesOf(3), [
    { start: 4095, end: 4096 },
    { start: 0, end: 16 },
  ]);
  assert.deepEqual(crossings.take(3, 100, 200), []);
  assert.deepEqual(crossings.take(3, 0, 1), [one]);
});

test("another that begins at the same place takes its place, with the page that it goes on in", () => {
  const crossings = new Crossings();
  crossings.put(crossing(3, 7, 4090, 1));
  const second = crossing(3, 8, 4090, 2);
  crossings.put(second);
  assert.deepEqual(crossings.take(7, 0, 16), []);
  assert.equal(crossings.at(3, 4090), second);
  crossings.clear();
  assert.equal(crossings.at(3, 4090), undefined);
});
