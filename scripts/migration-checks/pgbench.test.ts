import assert from "node:assert/strict";
import { test } from "node:test";
import { longestMs } from "./checked-guest.ts";
import { outcomeOf } from "./pgbench.ts";

const REPORT = `pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: <builtin: TPC-B (sort of)>
number of clients: 2
number of transactions actually processed: 393
number of failed transactions: 0 (0.000%)
tps = 9.449782 (without initial connection time)
`;

test("pgbench's report has the transactions that were acknowledged, and each line of what went wrong", () => {
  assert.deepEqual(outcomeOf("it", REPORT), { count: 393, failures: [] });
  const lost =
    "pgbench: error: client 1 script 0 aborted in command 5 query 0: perhaps the backend died while processing";
  const aborted = "Run was aborted; the above results are incomplete.";
  const failed = REPORT.replace("transactions: 0 (0.000%)", "transactions: 2 (0.500%)");
  assert.deepEqual(outcomeOf("it", `${lost}\n${failed}${aborted}\n`), {
    count: 393,
    failures: [`it: ${lost}`, "it: number of failed transactions: 2 (0.500%)", `it: ${aborted}`],
  });
  const refused = 'pgbench: error: connection to server at "127.0.0.1", port 5432 failed';
  assert.deepEqual(outcomeOf("it", refused), { count: 0, failures: [`it tells no transactions: ${refused}`] });
});

test("what began before a move or ended behind it counts for it as well", () => {
  const all = [
    [0, 10],
    [5, 40],
    [50, 60],
    [55, 200],
  ] as const;
  assert.deepEqual(
    [longestMs(all, 20, 30), longestMs(all, 45, 52), longestMs(all, 41, 49), longestMs(all, 0, 300)],
    [35, 10, 0, 145],
  );
});
