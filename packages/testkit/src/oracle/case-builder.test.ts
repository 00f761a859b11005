import assert from "node:assert/strict";
import { it } from "node:test";
import { Flag, type TestCase } from "./case.ts";
import { CaseBuilder } from "./case-builder.ts";
import { Prng } from "./prng.ts";
import { shrink } from "./shrink.ts";

const NOTHING = { reads: 0, defined: 0, undefined: 0 };
const SHIFT = { ...NOTHING, undefined: Flag.AF };
const COMPARE = { ...NOTHING, defined: Flag.AF };

function build(write: (b: CaseBuilder) => void): TestCase {
  const b = new CaseBuilder(new Prng(1), {
    stringPointers: false,
    rbxPointer: false,
    frame: false,
    fp: false,
    alignmentCheck: false,
  });
  write(b);
  return b.finish();
}

/** One byte of code that affects flags. */
function step(b: CaseBuilder, text: string, flags: typeof NOTHING, branchTo?: number): void {
  b.begin(text);
  b.emit(0x90);
  if (branchTo !== undefined) b.branchTo(branchTo);
  b.apply(flags, NOTHING, branchTo !== undefined);
}

it("an undefined flag is overlooked from behind its instruction until something defines it", () => {
  const c = build((b) => {
    step(b, "shift", SHIFT);
    step(b, "move", NOTHING);
    step(b, "compare", COMPARE);
  });
  assert.deepEqual(c.ignore?.rflags, [
    { at: 1, mask: Flag.AF },
    { at: 3, mask: 0 },
  ]);
});

it("a branch carries it past what would define it", () => {
  const c = build((b) => {
    step(b, "shift", SHIFT);
    step(b, "jump", NOTHING, 3);
    step(b, "compare", COMPARE);
  });
  assert.equal(c.ignore?.rflags?.findLast((x) => x.at <= 3)?.mask, Flag.AF);
});

it("shrinking takes back what a dropped instruction defined", () => {
  const c = build((b) => {
    step(b, "shift", SHIFT);
    step(b, "compare", COMPARE);
    step(b, "move", NOTHING);
  });
  const small = shrink(c, (candidates) =>
    candidates.map((x) => x.instructions?.some((i) => i.text === "shift") === true),
  );
  assert.deepEqual(
    small.instructions?.map((x) => x.text),
    ["shift"],
  );
  assert.equal(small.ignore?.rflags?.findLast((x) => x.at <= 1)?.mask, Flag.AF);
});

it("shrinking keeps what defines a flag for an instruction that reads it", () => {
  const c = build((b) => {
    step(b, "shift", SHIFT);
    step(b, "compare", COMPARE);
    step(b, "read", { ...NOTHING, reads: Flag.AF });
  });
  const has = (x: TestCase, text: string) => x.instructions?.some((i) => i.text === text) === true;
  const small = shrink(c, (candidates) => candidates.map((x) => has(x, "shift") && has(x, "read")));
  assert.deepEqual(
    small.instructions?.map((x) => x.text),
    ["shift", "compare", "read"],
  );
});
