/** The host's side of a balloon: what a process has resident. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { DomainMemory, type Frame } from "@xenoserver/cpu";
import { discardOf } from "./discard.ts";

const MIB_FRAMES = 256;
const residentMib = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]) / 1024;

test("frames lose their contents and their memory, and their neighbours neither", (t) => {
  const memory = DomainMemory.create(1, 80 * MIB_FRAMES);
  const discard = discardOf(memory);
  if (discard === undefined) return t.skip("this host cannot take memory back");
  for (let frame = 0; frame < 80 * MIB_FRAMES; frame++) memory.frameBytes(frame as Frame).fill(1);
  const before = residentMib();
  discard(MIB_FRAMES as Frame, 64 * MIB_FRAMES);
  assert.ok(before - residentMib() > 60, `${before} MiB before, ${residentMib()} afterwards`);
  assert.ok(memory.isZero(MIB_FRAMES as Frame) && memory.isZero((65 * MIB_FRAMES - 1) as Frame));
  for (const frame of [MIB_FRAMES - 1, 65 * MIB_FRAMES])
    assert.ok(memory.frameBytes(frame as Frame).every((byte) => byte === 1));
  memory.frameBytes(MIB_FRAMES as Frame).fill(2);
  assert.ok(memory.frameBytes(MIB_FRAMES as Frame).every((byte) => byte === 2));
});

test("nothing but the domain's frames can be named", (t) => {
  const discard = discardOf(DomainMemory.create(1, 16));
  if (discard === undefined) return t.skip("this host cannot take memory back");
  for (const [first, count] of [
    [-1, 1],
    [0, 0],
    [0, 17],
    [16, 1],
    [Number.NaN, 1],
  ] as const)
    assert.throws(() => discard(first as Frame, count), RangeError, `${first} ${count}`);
});
