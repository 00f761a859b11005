/** What the journal keeps of requests has its bounds. */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { KEY_SCHEMA, KeyTable } from "../api/key-table.ts";
import type { Operation } from "../api/schema/index.ts";
import { OPERATION_SCHEMA, OperationTable } from "./operation-table.ts";

const HOUR_MS = 3_600_000;
const ANSWER = { status: 200, headers: { location: "/x" }, body: "{}\n" };

describe("idempotency keys", () => {
  const tableAt = (clock: { nowMs: number }): KeyTable => {
    const db = new DatabaseSync(":memory:");
    db.exec(KEY_SCHEMA);
    return new KeyTable(db, () => clock.nowMs);
  };

  test("are kept with their answers for a day", () => {
    const clock = { nowMs: 1e12 };
    const table = tableAt(clock);
    table.add("key", { fingerprint: "f", workId: "w" });
    assert.deepEqual(table.find("key"), { fingerprint: "f", workId: "w" });
    table.answer("key", ANSWER);
    clock.nowMs += 24 * HOUR_MS;
    assert.deepEqual(table.find("key"), { fingerprint: "f", workId: "w", answer: ANSWER });
    clock.nowMs++;
    assert.equal(table.find("key"), undefined);
  });

  test("are at most ten thousand, the youngest, and those that were not answered", () => {
    const clock = { nowMs: 1e12 };
    const table = tableAt(clock);
    for (let n = 0; n < 10_003; n++, clock.nowMs++) {
      table.add(String(n), { fingerprint: "f", workId: String(n) });
      if (n !== 1) table.answer(String(n), ANSWER);
    }
    const there = ["0", "1", "2", "3", "10002"].map((key) => table.find(key) !== undefined);
    assert.deepEqual(there, [false, true, false, true, true]);
    table.removeWork("1");
    assert.equal(table.find("1"), undefined);
  });
});

test("of operations that are over the last are kept, and all that run", () => {
  const db = new DatabaseSync(":memory:");
  db.exec(OPERATION_SCHEMA);
  const table = new OperationTable(db);
  const operation = (id: string, state: Operation["state"]): Operation => ({
    ...{ id, kind: "create", state, canCancel: false, startedAtMs: 0, lastEventId: 0 },
  });
  table.put(operation("runs", "running"));
  for (let n = 0; n < 501; n++) {
    table.put(operation(String(n), "running"));
    table.put(operation(String(n), "succeeded"));
  }
  const all = table.all();
  assert.deepEqual([all.length, all[0]!.id, all[1]!.id, all.at(-1)!.id], [501, "runs", "1", "500"]);
  assert.equal(table.find("500")!.state, "succeeded");
  assert.equal(table.find("0"), undefined);
});
