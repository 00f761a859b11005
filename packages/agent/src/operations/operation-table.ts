/** Operations in the journal: what was begun and how it ended, so that a client finds it again when the agent has ended meanwhile. */
import type { DatabaseSync } from "node:sqlite";
import type { Operation } from "../api/schema/index.ts";

export const OPERATION_SCHEMA = `
  CREATE TABLE IF NOT EXISTS operations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    is_over INTEGER NOT NULL,
    operation TEXT NOT NULL
  ) STRICT;
`;

/** Of those that are over; the oldest go. */
const MAX_KEPT = 500;

export class OperationTable {
  readonly #db: DatabaseSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  put(operation: Operation): void {
    const isOver = operation.state === "running" ? 0 : 1;
    this.#db
      .prepare(
        `INSERT INTO operations (id, is_over, operation) VALUES (?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET is_over = excluded.is_over, operation = excluded.operation`,
      )
      .run(operation.id, isOver, JSON.stringify(operation));
    if (isOver === 0) return;
    this.#db
      .prepare(
        `DELETE FROM operations WHERE is_over = 1 AND seq <=
           (SELECT seq FROM operations WHERE is_over = 1 ORDER BY seq DESC LIMIT 1 OFFSET ?)`,
      )
      .run(MAX_KEPT);
  }

  /** The oldest first. */
  all(): Operation[] {
    return this.#db.prepare("SELECT operation FROM operations ORDER BY seq").all().map(asOperation);
  }

  find(id: string): Operation | undefined {
    const row = this.#db.prepare("SELECT operation FROM operations WHERE id = ?").get(id);
    return row === undefined ? undefined : asOperation(row);
  }
}

const asOperation = (row: Record<string, unknown>): Operation => JSON.parse(String(row["operation"])) as Operation;
