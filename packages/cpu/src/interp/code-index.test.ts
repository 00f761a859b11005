import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CODE_PAGES, PAGE_HEADS_BYTES } from "../state/layout.ts";
import { areaModule, instantiated, VB } from "../testing/area-module.ts";
import { CodeIndex, codeKey, emitFindRecord, type Heads } from "./code-index.ts";

/** A memory with an index in it, and the look-up that the dispatch loop has. */
function setUp() {
  const m = areaModule();
  const { fn } = m.func(["i32", "i32", "i32"], ["i32"], "find");
  fn.return(emitFindRecord(fn, fn.param(0), fn.param(1), fn.param(2)));
  fn.unreachable();
  const { functions, words } = instantiated<{ find(vb: number, heads: number, offset: number): number }>(m);
  return { index: new CodeIndex(words, VB), find: (heads: Heads, offset: number) => functions.find(VB, heads, offset) };
}

test("what was entered is found by both ways of looking, until it is removed", () => {
  const { index, find } = setUp();
  const step = fc.record({
    page: fc.nat(2),
    // Few offsets, so that lists get long and places are used again.
    offset: fc.oneof(fc.nat(40), fc.constantFrom(4064, 4095)),
    enters: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      index.reset();
      const heads = Array.from({ length: 3 }, () => index.addPage()!);
      const entered = new Map<number, number>();
      steps.forEach(({ page, offset, enters }, n) => {
        const key = codeKey(heads[page]!, offset);
        if (!enters) {
          index.remove(key);
          entered.delete(key);
        } else if (!entered.has(key)) {
          index.enter(heads[page]!, offset, 16 * (n + 1));
          entered.set(key, 16 * (n + 1));
        }
        for (const at of [offset, offset ^ 1, (offset + 32) & 4095]) {
          const expected = entered.get(codeKey(heads[page]!, at)) ?? 0;
          assert.equal(index.find(heads[page]!, at), expected);
          assert.equal(find(heads[page]!, at), expected);
        }
      });
    }),
  );
});

test("pages run out, and begin empty after a reset", () => {
  const { index, find } = setUp();
  const first = index.addPage()!;
  index.enter(first, 100, 16);
  assert.equal(find(first, 100), 16);
  for (let n = 1; n < CODE_PAGES; n++) assert.equal(index.addPage(), first + n * PAGE_HEADS_BYTES);
  assert.equal(index.addPage(), undefined);
  index.reset();
  assert.equal(index.addPage(), first);
  assert.equal(index.find(first, 100), 0);
  assert.equal(find(first, 100), 0);
});
