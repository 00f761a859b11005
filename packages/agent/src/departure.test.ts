/** A domain's last word when it moves, and what is found where that is lost. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { ControlError, ControlLost } from "@xenoserver/toolstack/control/index.ts";
import type { MigrationReport } from "@xenoserver/toolstack/migrate/index.ts";
import { sendAway } from "./departure.ts";
import { unwatched } from "./operations/work.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-departure-"));
const to = join(folder, "agent.sock");
const REPORT: MigrationReport = {
  ...{ rounds: 2, sentBytes: 100, diskBytes: 0, totalMs: 1000, downtimeMs: 20, leftHere: [] },
  downtime: { haltMs: 1, writeMs: 2, readyMs: 3, releaseMs: 4, startMs: 10 },
};
const ENDED = { runMs: 1, instructions: 1, exits: {}, restarts: 0, endedAt: 1 };

describe("a domain that moves", () => {
  let there: Server;
  let asked: string[];
  /** Status of the other agent's answer to whether it has arrived. */
  let arrival: number;

  before(async () => {
    there = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      const isArrival = request.url!.endsWith("/arrival");
      response.writeHead(isArrival ? arrival : 200);
      response.end(JSON.stringify(isArrival && arrival !== 200 ? { error: "it did not" } : { domid: 7, socket: "/s" }));
    });
    await new Promise<void>((resolve) => there.listen(to, resolve));
  });
  after(() => {
    there.close();
    rmSync(folder, { recursive: true });
  });
  beforeEach(() => {
    asked = [];
    arrival = 200;
  });

  type End = Awaited<Parameters<typeof sendAway>[0]["settled"]>;
  const move = (migrate: () => Promise<MigrationReport>, end: End): Promise<MigrationReport> => {
    const leaving = {
      ...{ domid: 3, spec: { name: "one" }, transfers: { migrate }, settled: Promise.resolve(end) },
      client: { call: () => assert.fail("the domain is gone") },
    };
    const options = { overcommit: false, copyStorage: false, postCopy: false };
    const home = { folder, domain: (domid: number) => join(folder, String(domid)) };
    return sendAway(leaving, to, options, home, unwatched("w"));
  };
  const loses = async (): Promise<never> => {
    throw new ControlLost();
  };

  test("has moved where it says so, and the other agent has it", async () => {
    assert.deepEqual(await move(async () => REPORT, { reason: "destroyed", ...ENDED, moved: REPORT }), REPORT);
    assert.deepEqual(asked, ["POST /v1/domains", "GET /v1/domains/7/arrival"]);
  });

  test("has moved where its last word was lost, but is in what it left", async () => {
    assert.deepEqual(await move(loses, { reason: "destroyed", ...ENDED, moved: REPORT }), REPORT);
    assert.deepEqual(asked, ["POST /v1/domains", "GET /v1/domains/7/arrival"]);
  });

  test("that was killed is looked for there", async () => {
    const killed = { reason: "killed", endedAt: 1 } as const;
    await assert.rejects(move(loses, killed), {
      message: "the domain's process is gone; the other agent was asked: it runs there",
    });
    arrival = 404;
    await assert.rejects(move(loses, killed), {
      message: "the domain's process is gone; the other agent was asked: it does not run there",
    });
    assert.deepEqual(asked.at(-1), "POST /v1/domains/7/give-up");
  });

  test("that ended by itself meanwhile has not moved", async () => {
    arrival = 404;
    await assert.rejects(move(loses, { reason: "poweroff", ...ENDED }), /it does not run there/);
  });

  test("and fails here is not waited for there", async () => {
    const refused = new ControlError("conflict", "the domain could not be moved");
    await assert.rejects(
      move(() => Promise.reject(refused), undefined),
      { message: "the domain could not be moved" },
    );
    assert.deepEqual(asked, ["POST /v1/domains", "POST /v1/domains/7/give-up"]);
  });
});
