import assert from "node:assert/strict";
import { test } from "node:test";
import { CodeLog, type CodeLogReader, HOST_AUTHOR } from "./code-log.ts";

function recorder(): { seen: string[]; reader: CodeLogReader } {
  const seen: string[] = [];
  const reader = {
    modified: (frame: number, offset: number, size: number) => seen.push(`modified ${frame} ${offset}+${size}`),
    watched: (frame: number) => seen.push(`watched ${frame}`),
    overflowed: () => seen.push("overflowed"),
  };
  return { seen, reader };
}

test("a reader sees what others wrote, in order and once", () => {
  const a = new CodeLog();
  const b = new CodeLog(a.buffer);
  a.watch(7, 0);
  a.modified(7, 4090, 6, 0);
  b.modified(9, 0, 4096, 1);
  a.modified(3, 1, 2, HOST_AUTHOR);
  const { seen, reader } = recorder();
  assert.ok(b.hasNews);
  b.catchUp(reader, 1);
  assert.deepEqual(seen, ["watched 7", "modified 7 4090+6", "modified 3 1+2"]);
  assert.ok(!b.hasNews);
  b.catchUp(reader, 1);
  assert.equal(seen.length, 3);
});

test("a reader that comes later starts at the present", () => {
  const a = new CodeLog();
  a.modified(1, 0, 1, 0);
  assert.ok(!new CodeLog(a.buffer).hasNews);
});

test("a reader that was lapped is told to forget everything", () => {
  const a = new CodeLog();
  const b = new CodeLog(a.buffer);
  for (let n = 0; n < 5000; n++) a.modified(n, 0, 1, 0);
  const { seen, reader } = recorder();
  b.catchUp(reader, 1);
  assert.deepEqual(seen, ["overflowed"]);
  a.modified(5, 6, 7, 0);
  b.catchUp(reader, 1);
  assert.deepEqual(seen, ["overflowed", "modified 5 6+7"]);
});
