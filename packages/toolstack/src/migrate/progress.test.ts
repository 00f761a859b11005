import assert from "node:assert/strict";
import { test } from "node:test";
import { MigrationMeter, type MigrationProgress } from "./progress.ts";

test("rates are of the last whole round, and the rest is expected at its speed", (t) => {
  let [nowMs, sentBytes] = [0, 0];
  t.mock.method(performance, "now", () => nowMs);
  const told: MigrationProgress[] = [];
  const disks = { diskBytes: 4096, diskTotalBytes: 8192 };
  const meter = new MigrationMeter(
    () => ({ sentBytes, ...disks }),
    (progress) => told.push(progress),
  );
  sentBytes = 4096;
  meter.disksSent();
  assert.deepEqual(told.splice(0), [{ phase: "disks", round: 0, sentBytes, ...disks, dirtyFrames: 0 }]);
  sentBytes = 0;
  meter.beginMemory();
  [nowMs, sentBytes] = [100, 1_000_000];
  meter.piece();
  assert.deepEqual(told, [], "not at each piece");
  [nowMs, sentBytes] = [500, 5_000_000];
  meter.piece();
  const begin = { phase: "memory", round: 1, sentBytes: 5_000_000, ...disks, dirtyFrames: 0 };
  assert.deepEqual(told.splice(0), [begin]);
  [nowMs, sentBytes] = [1000, 10_000_000];
  meter.roundEnded(1, 500);
  const rates = { bytesPerSecond: 10_000_000, dirtyBytesPerSecond: 2_048_000, expectedDowntimeMs: 204.8 };
  const first = { ...begin, sentBytes: 10_000_000, dirtyFrames: 500, ...rates };
  assert.deepEqual(told.splice(0), [first]);
  [nowMs, sentBytes] = [1200, 11_000_000];
  meter.piece();
  assert.deepEqual(told.splice(0), [{ ...first, round: 2, sentBytes: 11_000_000 }]);
  [nowMs, sentBytes] = [1500, 15_000_000];
  meter.roundEnded(2, 0);
  const second = { bytesPerSecond: 10_000_000, dirtyBytesPerSecond: 0, expectedDowntimeMs: 0 };
  assert.deepEqual(told.splice(0), [{ ...first, round: 2, sentBytes, dirtyFrames: 0, ...second }]);
  meter.handover();
  assert.deepEqual(told, [{ ...first, phase: "handover", round: 2, sentBytes, dirtyFrames: 0, ...second }]);
});

test("a round in which nothing was sent expects nothing", (t) => {
  let nowMs = 0;
  t.mock.method(performance, "now", () => nowMs);
  const told: MigrationProgress[] = [];
  const sent = { sentBytes: 0, diskBytes: 0, diskTotalBytes: 0 };
  const meter = new MigrationMeter(
    () => sent,
    (progress) => told.push(progress),
  );
  meter.beginMemory();
  nowMs = 1000;
  meter.roundEnded(1, 1);
  assert.deepEqual(told, [
    { phase: "memory", round: 1, ...sent, dirtyFrames: 1, bytesPerSecond: 0, dirtyBytesPerSecond: 4096 },
  ]);
});
