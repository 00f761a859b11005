import assert from "node:assert/strict";
import { test } from "node:test";
import { describeMigration, progressLine } from "./migration-progress.ts";

const START = {
  kind: "migrate",
  phase: "memory",
  round: 1,
  sentBytes: 1_234_567,
  diskBytes: 0,
  diskTotalBytes: 0,
  dirtyFrames: 0,
} as const;

test("what is known is told, and no more", () => {
  assert.equal(describeMigration(START), "round 1, 1.2 MB sent");
  const rates = { bytesPerSecond: 110e6, dirtyBytesPerSecond: 2.5e6, expectedDowntimeMs: 7.2 };
  const later = { ...START, ...rates, round: 2, sentBytes: 66e6, dirtyFrames: 300 };
  const told = "round 2, 66 MB sent, 110 MB/s, the guest writes 2.5 MB/s";
  assert.equal(describeMigration(later), `${told}, would stand still for 8 ms`);
  assert.equal(describeMigration({ ...later, phase: "handover" }), `${told}, stands still`);
});

test("a line is written over, cut to the terminal's width, and taken away", () => {
  let written = "";
  const terminal = { columns: 6, write: (text: string) => (written += text) } as unknown as NodeJS.WriteStream;
  const line = progressLine(terminal);
  line.show("abcdefgh");
  line.clear();
  assert.equal(written, "\r\x1b[Kabcde\r\x1b[K");
});
