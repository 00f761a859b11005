/** Idempotency keys in the journal, with the answers that were given for them. */
import type { DatabaseSync } from "node:sqlite";

export interface KeptAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface KeyRow {
  /** Of the request: its target and body. */
  readonly fingerprint: string;
  /** The work that it began; a domain that was made has it as its `runId`. */
  readonly workId: string;
  /** Undefined until it was answered. */
  readonly answer?: KeptAnswer;
}

export const KEY_SCHEMA = `
  CREATE TABLE IF NOT EXISTS idempotency_keys (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    work_id TEXT NOT NULL,
    began_at_ms INTEGER NOT NULL,
    answer TEXT
  ) STRICT;
  CREATE INDEX IF NOT EXISTS keys_by_age ON idempotency_keys (began_at_ms);
`;

const KEPT_MS = 24 * 3_600_000;
const MAX_KEYS = 10_000;

export class KeyTable {
  readonly #db: DatabaseSync;
  readonly #nowMs: () => number;

  constructor(db: DatabaseSync, nowMs: () => number = Date.now) {
    this.#db = db;
    this.#nowMs = nowMs;
  }

  find(key: string): KeyRow | undefined {
    this.#forgetOld();
    const row = this.#db.prepare("SELECT * FROM idempotency_keys WHERE key = ?").get(key);
    if (row === undefined) return undefined;
    return {
      fingerprint: String(row["fingerprint"]),
      workId: String(row["work_id"]),
      ...(row["answer"] !== null && { answer: JSON.parse(String(row["answer"])) as KeptAnswer }),
    };
  }

  add(key: string, { fingerprint, workId }: KeyRow): void {
    this.#db
      .prepare("INSERT INTO idempotency_keys (key, fingerprint, work_id, began_at_ms) VALUES (?, ?, ?, ?)")
      .run(key, fingerprint, workId, BigInt(this.#nowMs()));
  }

  answer(key: string, answer: KeptAnswer): void {
    this.#db.prepare("UPDATE idempotency_keys SET answer = ? WHERE key = ?").run(JSON.stringify(answer), key);
  }

  remove(key: string): void {
    this.#db.prepare("DELETE FROM idempotency_keys WHERE key = ?").run(key);
  }
  removeWork(workId: string): void {
    this.#db.prepare("DELETE FROM idempotency_keys WHERE work_id = ?").run(workId);
  }

  /** Those whose time has come, and of too many the oldest that were answered. */
  #forgetOld(): void {
    this.#db.prepare("DELETE FROM idempotency_keys WHERE began_at_ms < ?").run(BigInt(this.#nowMs() - KEPT_MS));
    this.#db
      .prepare(
        `DELETE FROM idempotency_keys WHERE answer IS NOT NULL AND key IN
           (SELECT key FROM idempotency_keys ORDER BY began_at_ms DESC LIMIT -1 OFFSET ?)`,
      )
      .run(MAX_KEYS);
  }
}
