import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TickPace } from "./tick-pace.ts";

const SHORTEST = 8192;

describe("the pace of ticks", () => {
  let nowNs = 0;
  /** One tick's work, that takes so long. */
  const tick = (pace: TickPace, tookNs: number): void => {
    pace.enter();
    pace.count(pace.left);
    nowNs += tookNs;
    assert.ok(pace.isOver);
    pace.begin();
    assert.equal(pace.left, pace.length);
  };

  test("gets to the work that takes 60 µs, step by step, and no shorter than its least", () => {
    const pace = new TickPace(() => nowNs);
    assert.equal(pace.length, SHORTEST);
    // Two units of work a nanosecond.
    const lengths = Array.from({ length: 12 }, () => {
      tick(pace, pace.length / 2);
      return pace.length;
    });
    assert.equal(lengths[0], SHORTEST * 1.5);
    assert.ok(lengths.every((length, n) => n === 0 || length >= lengths[n - 1]!));
    assert.equal(lengths.at(-1), 120_000);
    for (let n = 0; n < 20; n++) tick(pace, 10_000_000);
    assert.equal(pace.length, SHORTEST);
  });

  test("does not change by a tick that the hypervisor had a part of, nor by one of other work", () => {
    const pace = new TickPace(() => nowNs);
    pace.enter();
    pace.count(100);
    pace.enter();
    pace.count(SHORTEST);
    assert.equal(pace.left, -100);
    nowNs += 1000;
    pace.begin();
    assert.equal(pace.length, SHORTEST);
    pace.enter();
    pace.count(SHORTEST);
    pace.restart();
    assert.deepEqual([pace.left, pace.length], [SHORTEST, SHORTEST]);
  });
});
