/** What a domain's memory tells of its frames. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PAGE_BYTES } from "../engine.ts";
import { DomainMemory } from "./domain-memory.ts";
import type { Frame } from "./guest-memory.ts";

test("a frame with one byte that is not zero, wherever, is not empty", () => {
  const memory = DomainMemory.create(1, 3);
  const bytes = memory.frameBytes(1 as Frame);
  for (let at = 0; at < PAGE_BYTES; at++) {
    bytes[at] = 0x80;
    assert.ok(!memory.isZero(1 as Frame), `byte ${at}`);
    bytes[at] = 0;
  }
  assert.ok(memory.isZero(1 as Frame));
});

test("a frame is empty whatever its neighbours hold", () => {
  const memory = DomainMemory.create(1, 3);
  for (const frame of [0, 2]) memory.frameBytes(frame as Frame).fill(0xff);
  assert.ok(memory.isZero(1 as Frame));
});
