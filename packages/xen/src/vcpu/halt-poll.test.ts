import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { HaltPoll, MOST_MS } from "./halt-poll.ts";

/** A clock that goes on by what is done, and a doorbell that somebody rings at a moment. */
class Bell {
  nowMs = 1000;
  ringsAtMs = Infinity;
  #seen = 0;
  slept: { readonly seen: number; readonly timeoutMs: number }[] = [];
  yielded = 0;

  get doorbell(): number {
    return this.nowMs >= this.ringsAtMs ? this.#seen + 1 : this.#seen;
  }
  readonly yield = (): void => {
    this.yielded++;
    this.nowMs += 0.003;
  };
  wait(seen: number, timeoutMs: number): void {
    assert.equal(seen, this.#seen);
    this.slept.push({ seen, timeoutMs });
    this.nowMs = Math.min(Math.max(this.nowMs, this.ringsAtMs), this.nowMs + timeoutMs);
  }
  /** Has it wait, with somebody who rings after so long. @returns whether it slept */
  waits(poll: HaltPoll, ringsAfterMs: number, timeoutMs = 1000): boolean {
    const before = this.slept.length;
    this.ringsAtMs = this.nowMs + ringsAfterMs;
    poll.wait(this, { seen: this.#seen, timeoutMs });
    if (this.nowMs >= this.ringsAtMs) this.#seen++;
    this.ringsAtMs = Infinity;
    return this.slept.length > before;
  }
}

let bell: Bell;
let poll: HaltPoll;
beforeEach(() => {
  bell = new Bell();
  poll = new HaltPoll(bell.yield, () => bell.nowMs);
});
const learn = (): void => {
  for (let n = 0; n < 8; n++) bell.waits(poll, MOST_MS * 0.9);
};

test("it sleeps at first, and no longer when what it waited for came soon a few times", () => {
  assert.ok(bell.waits(poll, MOST_MS / 2));
  assert.equal(bell.yielded, 0);
  learn();
  assert.ok(!bell.waits(poll, MOST_MS / 2));
  assert.ok(bell.yielded > 0, "others have the processor between its looks");
});

test("a long wait ends that, and it polls no more than the most before", () => {
  learn();
  const beganMs = bell.nowMs;
  assert.ok(bell.waits(poll, 50));
  assert.equal(bell.nowMs, beganMs + 50, "it hears the bell when it rings");
  const { timeoutMs } = bell.slept.at(-1)!;
  assert.ok(1000 - timeoutMs <= MOST_MS + 0.01, `${timeoutMs}`);
  bell.yielded = 0;
  assert.ok(bell.waits(poll, 0.01));
  assert.equal(bell.yielded, 0);
});

test("a guest that waits for its timer polls for nothing", () => {
  for (let n = 0; n < 10; n++) bell.waits(poll, Infinity, 4);
  assert.equal(bell.yielded, 0);
  assert.equal(bell.slept.length, 10);
});

test("it goes on when its time is up, be it within the poll or after it", () => {
  learn();
  let beganMs = bell.nowMs;
  assert.ok(!bell.waits(poll, Infinity, 0.05));
  assert.ok(bell.nowMs - beganMs >= 0.05 && bell.nowMs - beganMs < 0.06);
  learn();
  beganMs = bell.nowMs;
  assert.ok(bell.waits(poll, Infinity, 5));
  assert.ok(Math.abs(bell.nowMs - beganMs - 5) < 0.001, "what it polled is a part of that time");
});

test("a bell that rang before is heard at once", () => {
  learn();
  bell.yielded = 0;
  assert.ok(!bell.waits(poll, 0));
  assert.equal(bell.yielded, 0);
});
