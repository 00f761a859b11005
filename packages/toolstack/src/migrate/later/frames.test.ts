import assert from "node:assert/strict";
import { test } from "node:test";
import { DomainMemory, type Frame } from "@xenoserver/cpu";
import { AskedFrames, LaterFrames, newLaterFrames } from "./frames.ts";

test("whoever misses a frame after the line was cut is told so, however many do", () => {
  const memory = DomainMemory.create(1, 128);
  const handle = newLaterFrames();
  const frames = new LaterFrames(handle, memory.absent);
  new AskedFrames(handle).lose();
  for (let frame = 0; frame < 100; frame++) {
    memory.absent.markAbsent(frame as Frame);
    assert.throws(() => frames.read(frame as Frame), new RegExp(`^Error: frame ${frame} did not come`));
  }
});
