/** What the agent must not forget: its domains, and what they used. The file's lock makes sure that there is one agent. */
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import type { DomainEnd, DomainSpec } from "@xenoserver/toolstack/control/index.ts";
import { USAGE_FIELDS, type UsageRecord } from "@xenoserver/toolstack/usage/meter.ts";
import { KEY_SCHEMA, KeyTable } from "./api/key-table.ts";
import type { UsageSum } from "./api/schema/index.ts";
import type { LostEnd } from "./domain-process.ts";
import { AgentError } from "./home.ts";
import { OPERATION_SCHEMA, OperationTable } from "./operations/operation-table.ts";

export type { UsageSum };

export interface DomainRow {
  readonly domid: number;
  readonly runId: string;
  readonly name: string;
  readonly spec: DomainSpec;
  /** The paused state in which it was created. */
  readonly paused: boolean;
  /** Undefined while it is there. */
  readonly end?: DomainEnd | LostEnd;
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS domains (
    domid INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    paused INTEGER NOT NULL,
    ended TEXT
  ) STRICT;
  CREATE UNIQUE INDEX IF NOT EXISTS live_names ON domains (name) WHERE ended IS NULL;
  CREATE TABLE IF NOT EXISTS usage (
    run_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    cause TEXT NOT NULL,
    from_ns INTEGER NOT NULL,
    to_ns INTEGER NOT NULL,
    ended_at_ms INTEGER NOT NULL,
    ${USAGE_FIELDS.map((field) => `"${field}" INTEGER NOT NULL`).join(", ")},
    PRIMARY KEY (run_id, seq)
  ) STRICT;
`;

/** Also operations and idempotency keys, in tables of their own. */
export class Journal {
  readonly #db: DatabaseSync;
  readonly operations: OperationTable;
  readonly keys: KeyTable;

  /** @throws AgentError  another agent has it */
  constructor(path: string) {
    this.#db = new DatabaseSync(path);
    try {
      this.#db.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
      this.#db.exec(`BEGIN IMMEDIATE; ${SCHEMA} ${OPERATION_SCHEMA} ${KEY_SCHEMA} COMMIT;`);
    } catch (cause) {
      this.#db.close();
      if (/locked|busy/.test(String(cause))) throw new AgentError(409, "an agent runs in this folder already");
      throw cause;
    }
    this.operations = new OperationTable(this.#db);
    this.keys = new KeyTable(this.#db);
  }

  /** @throws AgentError  there is a domain of that name */
  add(name: string, runId: string, spec: DomainSpec, paused: boolean): number {
    try {
      const insert = this.#db.prepare("INSERT INTO domains (run_id, name, spec, paused) VALUES (?, ?, ?, ?)");
      return Number(insert.run(runId, name, JSON.stringify(spec), paused ? 1 : 0).lastInsertRowid);
    } catch (cause) {
      if (!/UNIQUE/.test(String(cause))) throw cause;
      throw new AgentError(409, `domain ${name} is there already`);
    }
  }

  /** @throws AgentError  as `add` */
  rename(domid: number, name: string): void {
    try {
      this.#db.prepare("UPDATE domains SET name = ? WHERE domid = ?").run(name, domid);
    } catch (cause) {
      if (!/UNIQUE/.test(String(cause))) throw cause;
      throw new AgentError(409, `domain ${name} is there already`);
    }
  }

  live(): DomainRow[] {
    return this.#db.prepare("SELECT * FROM domains WHERE ended IS NULL ORDER BY domid").all().map(asRow);
  }

  find(domid: number): DomainRow | undefined {
    const row = this.#db.prepare("SELECT * FROM domains WHERE domid = ?").get(domid);
    return row === undefined ? undefined : asRow(row);
  }

  findRun(runId: string): DomainRow | undefined {
    const row = this.#db.prepare("SELECT * FROM domains WHERE run_id = ?").get(runId);
    return row === undefined ? undefined : asRow(row);
  }

  /** The end of a domain that tells of something by its token. */
  findEnd(token: string): DomainRow["end"] {
    const row = this.#db.prepare("SELECT * FROM domains WHERE instr(ended, ?) > 0").get(JSON.stringify(token));
    return row === undefined ? undefined : asRow(row).end;
  }

  /** Its last usage and its end, both or neither. */
  end(domid: number, end: NonNullable<DomainRow["end"]>, records: readonly UsageRecord[]): void {
    this.#transaction(() => {
      this.#insert(records);
      this.#db.prepare("UPDATE domains SET ended = ? WHERE domid = ?").run(JSON.stringify(end), domid);
    });
  }

  /** Keeps records; those that are there already stay as they are. */
  keep(records: readonly UsageRecord[]): void {
    if (records.length > 0) this.#transaction(() => this.#insert(records));
  }

  usage(): UsageSum[] {
    const sums = USAGE_FIELDS.map((field) => `SUM("${field}") AS "${field}"`).join(", ");
    const rows = this.#db
      .prepare(
        `SELECT d.run_id, d.domid, d.name, COUNT(*) AS records, ${sums} FROM usage u JOIN domains d ON d.run_id = u.run_id GROUP BY d.domid ORDER BY d.domid`,
      )
      .all();
    return rows.map((row) => ({
      runId: String(row["run_id"]),
      domid: Number(row["domid"]),
      name: String(row["name"]),
      records: Number(row["records"]),
      totals: Object.fromEntries(USAGE_FIELDS.map((field) => [field, Number(row[field])])) as UsageSum["totals"],
    }));
  }

  close(): void {
    this.#db.close();
  }

  #insert(records: readonly UsageRecord[]): void {
    const columns = ["run_id", "seq", "cause", "from_ns", "to_ns", "ended_at_ms", ...USAGE_FIELDS.map((f) => `"${f}"`)];
    const insert = this.#db.prepare(
      `INSERT OR IGNORE INTO usage (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`,
    );
    for (const record of records) {
      const { runId, seq, cause, fromNs, toNs, endedAtMs } = record;
      const values: SQLInputValue[] = [
        runId,
        seq,
        cause,
        fromNs,
        toNs,
        endedAtMs,
        ...USAGE_FIELDS.map((f) => record[f]),
      ];
      // A whole number beyond 32 bits is bound as a real by itself, which a strict column refuses.
      insert.run(...values.map((value) => (typeof value === "number" ? BigInt(value) : value)));
    }
  }

  #transaction(body: () => void): void {
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      body();
      this.#db.exec("COMMIT");
    } catch (error) {
      this.#db.exec("ROLLBACK");
      throw error;
    }
  }
}

function asRow(row: Record<string, unknown>): DomainRow {
  return {
    domid: Number(row["domid"]),
    runId: String(row["run_id"]),
    name: String(row["name"]),
    spec: JSON.parse(String(row["spec"])) as DomainSpec,
    paused: row["paused"] === 1,
    ...(row["ended"] !== null && { end: JSON.parse(String(row["ended"])) as NonNullable<DomainRow["end"]> }),
  };
}
