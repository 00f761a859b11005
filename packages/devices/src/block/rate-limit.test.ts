import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RateLimiter } from "./rate-limit.ts";

test("what was saved up may be spent at once, and what is overdrawn is waited off", () => {
  let now = 0;
  const limiter = new RateLimiter({ bytesPerSecond: 1000, burstSeconds: 2 }, () => now);
  limiter.charge(1900);
  assert.equal(limiter.delayMs(), 0);
  limiter.charge(600);
  assert.equal(limiter.delayMs(), 501);
  now += 501;
  assert.equal(limiter.delayMs(), 0);
});

test("without limits nothing waits", () => {
  const limiter = new RateLimiter({});
  limiter.charge(1e12);
  assert.equal(limiter.delayMs(), 0);
});

test("over any time, no more is served than the rate, the burst and one request", () => {
  const request = fc.record({
    bytes: fc.integer({ min: 512, max: 1 << 20 }),
    idleMs: fc.integer({ min: 0, max: 3000 }),
  });
  fc.assert(
    fc.property(fc.array(request, { minLength: 1 }), (requests) => {
      let now = 0;
      let served = 0;
      const limiter = new RateLimiter({ bytesPerSecond: 100_000, requestsPerSecond: 50, burstSeconds: 1 }, () => now);
      for (const { bytes, idleMs } of requests) {
        now += idleMs;
        now += limiter.delayMs();
        assert.equal(limiter.delayMs(), 0);
        limiter.charge(bytes);
        served += bytes;
        assert.ok(served <= 100_000 * (1 + now / 1000) + (1 << 20));
      }
    }),
  );
});
