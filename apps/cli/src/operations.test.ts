/** What goes on behind an answer: operations that are followed, waited for, cancelled, and found again by the next agent. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createReadStream, existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { DomainInfo, MigrationReport, Operation, OperationEvent } from "@xenoserver/agent/index.ts";
import { AgentError, eventsOf, operate, type Progress } from "@xenoserver/agent/index.ts";
import { stampGuest } from "@xenoserver/testkit";
import { type Answer, TestAgent } from "./test-api.ts";
import { runProcess, XENO, xeno } from "./test-process.ts";
import { Receiver, type StopsAt } from "./test-receiver.ts";

const skip = spawnSync("script", ["--version"]).status === 0 ? false : "script(1) of util-linux is not here";
const ASYNC = { prefer: "respond-async" };
type Refusal = { readonly error: string };

let here: TestAgent;
let there: TestAgent;
let kernel: string;
before(async () => {
  [here, there] = [await TestAgent.start("here"), await TestAgent.start("there")];
  kernel = join(here.home.folder, "guest");
  writeFileSync(kernel, stampGuest());
});
after(() => Promise.all([here.end(), there.end()]));

const specOf = (name: string) => ({ spec: { name, kernel, memory: 32 }, overcommit: true });
const at = (operation: Operation, what = ""): string => `/v1/operations/${operation.id}${what}`;
const ended = async (operation: Operation): Promise<Operation> =>
  (await here.get<Operation>(at(operation, "/wait?timeoutSeconds=100"))).body;
const stateOf = async (name: string): Promise<string> => (await here.get<DomainInfo>(`/v1/domains/${name}`)).body.state;

/** Its guest, which says so each time, goes through its memory. */
async function goesOn(name: string): Promise<void> {
  const { domid } = (await here.get<DomainInfo>(`/v1/domains/${name}`)).body;
  const saidBytes = (): number => statSync(join(here.home.domain(domid), "log")).size;
  for (const until = saidBytes() + 100; saidBytes() < until; await sleep(10));
}

/** @returns the events behind one, or the status of another answer */
async function eventsBehind(operation: Operation, last = 0): Promise<OperationEvent[] | number> {
  const response = await here.client.ask("GET", at(operation, "/events"), {
    headers: { "last-event-id": String(last) },
  });
  if (response.statusCode !== 200) return response.resume().statusCode!;
  assert.equal(response.headers["content-type"], "text/event-stream");
  return Array.fromAsync(eventsOf(response));
}

async function begin(path: string, body: unknown): Promise<Operation> {
  const { status, headers, body: operation } = await here.post<Operation>(path, body, ASYNC);
  assert.deepEqual([status, headers["preference-applied"]], [202, "respond-async"], JSON.stringify(operation));
  assert.equal(headers.location, at(operation));
  return operation;
}

describe("an operation", { timeout: 300_000 }, () => {
  test("goes on behind its answer, and tells how it ended", async () => {
    const operation = await begin("/v1/domains", specOf("mover"));
    assert.deepEqual([operation.kind, operation.state, operation.canCancel], ["create", "running", true]);
    const { state, result, endedAtMs } = await ended(operation);
    assert.deepEqual([state, (result as DomainInfo).name], ["succeeded", "mover"]);
    assert.ok(endedAtMs! >= operation.startedAtMs);
    const events = (await eventsBehind(operation)) as OperationEvent[];
    assert.deepEqual(
      events.map(({ id, event }) => [id, event]),
      [
        [1, "progress"],
        [2, "end"],
      ],
    );
    assert.deepEqual(events[0]!.operation.progress, { kind: "create", domid: (result as DomainInfo).domid });
    assert.deepEqual(
      ((await eventsBehind(operation, 1)) as OperationEvent[]).map(({ id }) => id),
      [2],
    );
    assert.equal(await eventsBehind(operation, 2), 204, "who has them all is to come no more");
  });

  test("is not begun for what can be seen to be wrong, and who is ready to wait is answered directly", async () => {
    assert.equal((await here.post("/v1/domains/nobody/migrate", { to: "/x" }, ASYNC)).status, 404);
    assert.equal((await here.post("/v1/domains/mover/fork", { count: 0 }, ASYNC)).status, 400);
    const stale = { ...ASYNC, "if-match": '"stale"' };
    assert.equal((await here.post("/v1/domains/mover/snapshot", { path: "/x" }, stale)).status, 412);
    const wait = { prefer: "respond-async, wait=100" };
    const path = join(here.home.folder, "snapshot");
    const done = await here.post<{ bytes: number }>("/v1/domains/mover/snapshot", { path }, wait);
    assert.ok(done.status === 200 && done.body.bytes > 0);
    const failed = await here.post<Refusal>("/v1/domains/mover/snapshot", { path: "/no/folder" }, wait);
    assert.equal(failed.status, 409);
    assert.match(failed.body.error, /^\/no\/folder: cannot be written/);
    const { operations } = (await here.get<{ operations: Operation[] }>("/v1/operations")).body;
    assert.deepEqual(
      operations.map(({ kind, state }) => `${kind} ${state}`),
      [...["create succeeded", "snapshot succeeded", "snapshot failed"]],
    );
  });

  test("that cannot be cancelled says so, and so does one that is over", async () => {
    const operation = await begin("/v1/domains/mover/shutdown", { request: "poweroff", wait: true });
    const { status, body } = await here.post<Refusal>(at(operation, "/cancel"));
    assert.deepEqual([status, body.error], [409, `operation ${operation.id}, a shutdown, cannot be cancelled`]);
    const { operations } = (await here.get<{ operations: Operation[] }>("/v1/operations")).body;
    const over = await here.post<Refusal>(at(operations[0]!, "/cancel"));
    assert.match(over.body.error, /has succeeded, expected one that runs$/);
    assert.equal((await here.post("/v1/operations/none/cancel")).status, 404);
    // It goes on, and the next agent finds that it was not seen to end.
    await here.kill();
    await here.restart();
    const { state, error } = await ended(operation);
    assert.equal(state, "failed");
    assert.match(error!.message, /^the agent ended before this shutdown did/);
    assert.deepEqual(
      ((await eventsBehind(operation, 1)) as OperationEvent[]).map(({ event }) => event),
      ["end"],
    );
  });

  test("to create has succeeded if the domain is there when the next agent looks", async () => {
    const body = specOf("begun");
    const headers = { ...ASYNC, "idempotency-key": "begun" };
    const { body: operation } = await here.post<Operation>("/v1/domains", body, headers);
    await here.kill();
    await here.restart();
    const { state, result } = await ended(operation);
    assert.deepEqual([state, (result as DomainInfo).name], ["succeeded", "begun"]);
    assert.deepEqual((await here.post<Operation>("/v1/domains", body, headers)).body, operation);
    await here.post("/v1/domains/begun/destroy");
  });

  test("is followed by a client over an agent that is killed, and done once", async () => {
    const made = operate<DomainInfo>(here.client, "/v1/domains", specOf("followed"), { idempotencyKey: "followed" });
    await here.kill();
    await here.restart();
    assert.equal((await made).name, "followed");
    const { domains } = (await here.get<{ domains: DomainInfo[] }>("/v1/domains")).body;
    assert.deepEqual(domains.map(({ name }) => name).sort(), ["followed", "mover"]);
    await here.post("/v1/domains/followed/destroy");
  });

  test("to save is told by the next agent: that it goes on, and what came of it", async () => {
    await here.post("/v1/domains", specOf("kept"));
    const path = join(here.home.folder, "saved");
    const failing = join(here.home.folder, "failing");
    // What is written stays on its way until somebody reads it, and cannot be flushed then.
    execFileSync("mkfifo", [`${failing}.part`]);
    const fails = await begin("/v1/domains/kept/save", { path: failing, next: "run" });
    while ((await stateOf("kept")) !== "paused");
    await here.kill();
    await here.restart();
    const { body } = await here.get<Operation>(at(fails));
    assert.deepEqual([body.state, body.canCancel], ["running", false]);
    createReadStream(`${failing}.part`).resume();
    const { state, result, error } = await ended(fails);
    assert.deepEqual([state, error?.status], ["failed", 409], JSON.stringify(result));
    assert.match(error!.message, /failing: cannot be written: EINVAL/);
    assert.equal(existsSync(failing), false);

    // It is done when the next agent looks, or goes on.
    const ends = await begin("/v1/domains/kept/save", { path, next: "destroy" });
    while (!existsSync(`${path}.part`) && !existsSync(path)) await sleep(1);
    await here.kill();
    await here.restart();
    const saved = await ended(ends);
    assert.equal(saved.state, "succeeded", JSON.stringify(saved));
    assert.ok((saved.result as { bytes: number }).bytes > 0);
    assert.ok(statSync(path).size > 0);
    const restored = await here.post<DomainInfo>("/v1/domains", { restore: path, overcommit: true });
    assert.equal(restored.body.name, "kept", JSON.stringify(restored.body));
    await here.post("/v1/domains/kept/destroy");
  });

  test("to create can be cancelled, and leaves nothing", async () => {
    // A kernel that is never there to be read.
    const fifo = join(here.home.folder, "fifo");
    execFileSync("mkfifo", [fifo]);
    const { spec, overcommit } = specOf("unwanted");
    const operation = await begin("/v1/domains", { spec: { ...spec, kernel: fifo }, overcommit });
    assert.equal((await here.get<Operation>(at(operation, "/wait?timeoutSeconds=0"))).body.state, "running");
    const { body } = await here.post<Operation>(at(operation, "/cancel"));
    assert.deepEqual([body.state, body.error!.message], ["cancelled", "domain unwanted: its creation was cancelled"]);
    assert.equal((await here.get("/v1/domains/unwanted")).status, 404);
    assert.equal(readdirSync(join(here.home.folder, "domains")).length, 1);
  });
});

describe("a migration", { timeout: 300_000 }, () => {
  const moveTo = async (t: TestContext, stopsAt: StopsAt): Promise<Receiver> => {
    const receiver = await Receiver.listen(join(here.home.folder, `${stopsAt}.sock`), stopsAt);
    t.after(() => receiver.close());
    return receiver;
  };
  const phaseOf = async (operation: Operation): Promise<string | undefined> => {
    const { progress } = (await here.get<Operation>(at(operation))).body;
    return progress?.kind === "migrate" ? progress.phase : undefined;
  };

  for (const [stopsAt, phase] of [
    ["memory", undefined],
    ["ready", "handover"],
  ] as const)
    test(`that is cancelled ${phase ?? "in its first round"} leaves the domain running here`, async (t) => {
      const receiver = await moveTo(t, stopsAt);
      const operation = await begin("/v1/domains/mover/migrate", { to: receiver.socket });
      await receiver.stopped;
      assert.equal(await phaseOf(operation), phase);
      const { status, body } = await here.post<Operation>(at(operation, "/cancel"));
      assert.deepEqual([status, body.state], [200, "cancelled"]);
      assert.equal(body.error!.message, "the domain could not be moved: it was cancelled");
      assert.equal(await stateOf("mover"), "running");
      await goesOn("mover");
      await goesOn("mover");
      assert.deepEqual(receiver.asked, ["POST /v1/domains", "POST /v1/domains/7/give-up"]);
    });

  test("that is committed cannot be cancelled any more", async (t) => {
    const receiver = await moveTo(t, "commit");
    const operation = await begin("/v1/domains/mover/migrate", { to: receiver.socket });
    await receiver.stopped;
    const cancelling = here.post<Refusal>(at(operation, "/cancel"));
    // Refused when it is known how it ended; the line breaks, and the other agent says that the domain is not there.
    while ((await here.get<Operation>(at(operation))).body.canCancel) await sleep(5);
    receiver.cut();
    const { status, body } = await cancelling;
    assert.deepEqual([status, body.error], [409, `operation ${operation.id} has failed, it was too late to cancel it`]);
    assert.match((await ended(operation)).error!.message, /the other agent was asked: it does not, and runs on here$/);
    assert.equal(await stateOf("mover"), "running");
    await goesOn("mover");
  });

  test("tells how far it has come, and what the guest writes", async () => {
    await goesOn("mover");
    const told: Extract<Progress, { kind: "migrate" }>[] = [];
    const report = await operate<MigrationReport>(
      here.client,
      "/v1/domains/mover/migrate",
      { to: there.home.socket, overcommit: true },
      { onProgress: (progress) => progress.kind === "migrate" && told.push(progress) },
    );
    const rounds = told.filter(({ phase }) => phase === "memory").map(({ round }) => round);
    assert.deepEqual(
      rounds,
      rounds.toSorted((a, b) => a - b),
    );
    assert.equal(rounds.at(-1), report.rounds);
    const { phase, round, sentBytes, bytesPerSecond, dirtyFrames, dirtyBytesPerSecond, expectedDowntimeMs } =
      told.at(-1)!;
    assert.deepEqual([phase, round], ["handover", report.rounds]);
    assert.ok(sentBytes > 8 << 20 && sentBytes <= report.sentBytes, String(sentBytes));
    // This guest writes to all of its memory, all the time.
    assert.ok(dirtyFrames > 0 && dirtyBytesPerSecond! > 0 && bytesPerSecond! > 0);
    assert.ok(Math.abs(expectedDowntimeMs! - ((dirtyFrames * 4096) / bytesPerSecond!) * 1000) < 1);
    assert.equal((await there.get<DomainInfo>("/v1/domains/mover")).body.state, "running");
  });

  test("is shown on a terminal, and on nothing else", { skip }, async () => {
    const args = ["migrate", "mover", here.home.folder, "--overcommit"];
    const command = [process.execPath, XENO, ...args].join(" ");
    const { stdout } = await runProcess("script", ["-qec", command, "/dev/null"], { env: there.env });
    assert.match(stdout, /mover: round \d+, [\d.]+ MB sent, [\d.]+ MB\/s, the guest writes [\d.]+ MB\/s, /);
    assert.ok(stdout.includes("\r\x1b[Kmover is at "), stdout);
    const back = ["migrate", "mover", there.home.folder, "--overcommit"];
    const { status, stdout: said, stderr } = await xeno(back, { env: here.env });
    assert.deepEqual([status, stderr], [0, ""]);
    assert.match(said, /^mover is at /);
  });

  test("is taken back by a client's signal", async (t) => {
    const receiver = await moveTo(t, "ready");
    await there.post("/v1/domains/mover/rename", { name: "moved" });
    const controller = new AbortController();
    const moving = operate(
      there.client,
      "/v1/domains/moved/migrate",
      { to: receiver.socket },
      { signal: controller.signal },
    );
    await receiver.stopped;
    controller.abort();
    await assert.rejects(
      moving,
      (error: AgentError) => error instanceof AgentError && /it was cancelled/.test(error.message),
    );
    assert.equal((await there.get<DomainInfo>("/v1/domains/moved")).body.state, "running");
  });
});

describe("what is left", { timeout: 300_000 }, () => {
  test("of a save or snapshot that was cancelled is no file", async () => {
    const answers: Answer<Operation>[] = [];
    for (const [op, more] of [
      ["save", { next: "run" }],
      ["snapshot", {}],
    ] as const) {
      const path = join(there.home.folder, `cancelled-${op}`);
      const { body } = await there.post<Operation>(`/v1/domains/moved/${op}`, { path, ...more }, ASYNC);
      const answer = await there.post<Operation>(`/v1/operations/${body.id}/cancel`);
      answers.push(answer);
      // Who is quick may have been done.
      assert.equal(existsSync(path), answer.status === 409, op);
      assert.equal(existsSync(`${path}.part`), false);
    }
    assert.ok(answers.every(({ status }) => status === 200 || status === 409));
    assert.equal((await there.get<DomainInfo>("/v1/domains/moved")).body.state, "running");
  });

  test("of a fork that was cancelled is no copy", async () => {
    for (const isMaking of [false, true]) {
      const body = { count: 2, name: "copy", overcommit: true };
      const { body: operation } = await there.post<Operation>("/v1/domains/moved/fork", body, ASYNC);
      const domains = join(there.home.folder, "domains");
      while (isMaking && readdirSync(domains).length < 2) await sleep(1);
      const { status, body: ended } = await there.post<Operation>(at(operation, "/cancel"));
      assert.deepEqual([status, ended.state], [200, "cancelled"], JSON.stringify(ended));
      assert.deepEqual(readdirSync(domains).length, 1);
      assert.deepEqual(
        readdirSync(there.home.folder).filter((name) => name.startsWith("fork-")),
        [],
      );
    }
  });
});
