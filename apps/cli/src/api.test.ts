/** The agent's API by HTTP: what it refuses, conditional requests, and requests that are repeated, also over an agent that was killed. */
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { DomainInfo, DomainSettings } from "@xenoserver/agent/index.ts";
import { spinGuest } from "@xenoserver/testkit";
import { type Answer, checkAnswer, TestAgent } from "./test-api.ts";
import { xeno } from "./test-process.ts";

type Refusal = { readonly error: string };

let agent: TestAgent;
let kernel: string;

before(async () => {
  agent = await TestAgent.start("api");
  kernel = join(agent.home.folder, "guest");
  writeFileSync(kernel, spinGuest());
});
after(() => agent.end());

const specOf = (name: string) => ({ name, kernel, memory: 32 });
const create = (name: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer<DomainInfo>> =>
  agent.post("/v1/domains", { spec: specOf(name), paused: true, overcommit: true }, headers);
const namesOf = async (): Promise<string[]> =>
  (await agent.get<{ domains: DomainInfo[] }>("/v1/domains")).body.domains.map(({ name }) => name);

describe("requests", { timeout: 200_000 }, () => {
  test("get answers that are as the document says", async () => {
    assert.equal((await create("one")).status, 200);
    const disk = join(agent.home.folder, "disk.img");
    writeFileSync(disk, new Uint8Array(4096));
    await agent.post("/v1/domains/one/block-attach", { disk: `${disk},raw,xvda` });
    await agent.post("/v1/domains/one/network-attach", { vif: "net=none" });
    for (const path of ["agent", "usage", "domains", "domains/one", "domains/one?view=settings", "domains/one/log"])
      assert.equal((await agent.get(`/v1/${path}`)).status, 200, path);
    assert.equal((await agent.get("/v1/operations")).status, 200);
    assert.equal((await agent.post("/v1/domains/one/xenstore-tree", { path: "/" })).status, 200);
    const { body: usage } = await agent.get("/v1/usage");
    assert.throws(() => checkAnswer("GET", "/v1/agent", { status: 200, headers: {}, body: usage }), "it is looked at");
    assert.throws(() => checkAnswer("GET", "/v1/usage", { status: 418, headers: {}, body: usage }));
    const { body } = await agent.get<{ openapi: string }>("/v1/openapi.json");
    assert.equal(body.openapi, "3.1.1");
    assert.deepEqual(JSON.parse((await xeno(["agent", "openapi"])).stdout), body);
  });

  test("that are wrong are refused with a sentence", async () => {
    const refused: [answer: Promise<Answer>, status: number, error: string][] = [
      [agent.get("/v1/nothing"), 404, "GET /v1/nothing: no such resource"],
      [agent.get("/v1/domains/one/"), 404, "GET /v1/domains/one/: no such resource"],
      [agent.get("/v1/domains/nobody"), 404, "domain nobody is not there"],
      [agent.ask("DELETE", "/v1/domains/one"), 405, "DELETE /v1/domains/one: expected GET"],
      [agent.get("/v1/domains?view=all"), 400, 'view is "all", expected one of full, settings'],
      [agent.get("/v1/domains/%ff"), 400, "%ff in the path is ill encoded, expected UTF-8 with %"],
      [agent.post("/v1/domains", {}), 400, "spec is missing, expected keys of xl.cfg"],
      [agent.post("/v1/domains/one/pause", { now: true }), 400, "now is no field of this request"],
      [
        agent.post("/v1/domains/one/vcpu-set", { count: "2" }),
        400,
        'count is "2", expected a whole number, at least 0',
      ],
      [
        agent.post("/v1/domains/one/weight-set", { weight: "heavy" }),
        400,
        'weight is "heavy", expected a whole number, at least 0',
      ],
      [
        agent.post("/v1/domains/one/vcpu-pin", { vcpu: "first", cpus: "0" }),
        400,
        'vcpu is "first", expected a vcpu\'s number, or all',
      ],
      [
        agent.post("/v1/domains/one/pause", {}, { "if-match": "x" }),
        400,
        "If-Match is x, expected ETags in quotation marks, or *",
      ],
      [
        agent.post("/v1/agent/stop", {}, { "if-match": "*" }),
        400,
        "If-Match is there, expected none: this has no ETag",
      ],
      [agent.get("/v1/operations/none"), 404, "operation none is not there"],
    ];
    for (const [answer, status, error] of refused) {
      const { status: given, body } = await answer;
      assert.deepEqual([given, (body as Refusal).error], [status, error]);
    }
  });

  test("of pages in browsers are refused, and nothing is done", async () => {
    const statusOf = (method: string, path: string, headers: Readonly<Record<string, string>>): Promise<number> =>
      new Promise((resolve, reject) => {
        const sent = request({ socketPath: agent.home.socket, method, path, headers, agent: false });
        sent.on("response", (response) => resolve(response.resume().statusCode!));
        sent.on("upgrade", () => resolve(101));
        sent.on("error", reject).end(method === "POST" ? "{}" : undefined);
      });
    const page = { origin: "http://page.example" };
    const webSocket = {
      ...{ connection: "upgrade", upgrade: "websocket", "sec-websocket-version": "13" },
      ...{ "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-protocol": "console.xenoserver.v1" },
    };
    assert.equal(await statusOf("POST", "/v1/domains/one/destroy", page), 403);
    assert.equal(await statusOf("GET", "/v1/domains", { "sec-fetch-site": "cross-site" }), 403);
    assert.equal(await statusOf("GET", "/v1/domains/one/console", { ...webSocket, ...page }), 403);
    assert.equal(await statusOf("GET", "/v1/domains/one/console", webSocket), 101);
    const other = { ...webSocket, "sec-websocket-protocol": "chat" };
    assert.equal(await statusOf("GET", "/v1/domains/one/console", other), 400);
    assert.equal(await statusOf("GET", "/v1/domains/nobody/console", webSocket), 404);
    assert.deepEqual(await namesOf(), ["one"]);
  });
});

describe("ETags", { timeout: 200_000 }, () => {
  const settings = "/v1/domains/one?view=settings";
  const tagOf = async (path = settings): Promise<string> => (await agent.get(path)).headers.etag!;

  test("spare who has the answer already", async () => {
    for (const path of [settings, "/v1/domains?view=settings", "/v1/openapi.json"]) {
      const etag = await tagOf(path);
      assert.match(etag, /^"[\w-]{43}"$/);
      const { status, body, headers } = await agent.get(path, { "if-none-match": `"other", W/${etag}` });
      assert.deepEqual([status, body, headers.etag], [304, undefined, etag]);
      assert.equal((await agent.get(path, { "if-none-match": '"other"' })).status, 200);
    }
  });

  test("let a change be made only to what was seen, and of two changes one", async () => {
    const etag = await tagOf();
    const set = (mib: number, tag: string): Promise<Answer> =>
      agent.post("/v1/domains/one/memory-set", { targetBytes: mib << 20 }, { "if-match": tag });
    const statuses = (await Promise.all([set(16, etag), set(20, etag)])).map(({ status }) => status);
    assert.deepEqual(statuses.sort(), [200, 412]);
    const { status, body } = await set(24, etag);
    assert.deepEqual([status, (body as Refusal).error], [412, `If-Match is ${etag}, but one has changed since`]);
    const { memoryTargetBytes } = (await agent.get<DomainSettings>(settings)).body;
    assert.ok([16 << 20, 20 << 20].includes(memoryTargetBytes));
    assert.equal((await set(24, `"x", ${await tagOf()}`)).status, 200);
    assert.equal((await set(28, "*")).status, 200);
    assert.equal((await agent.post("/v1/domains/nobody/pause", {}, { "if-match": "*" })).status, 404);
  });

  test("stay while a domain runs, without its counters", async () => {
    await agent.post("/v1/domains/one/unpause");
    const [whole, bare] = [await tagOf("/v1/domains/one"), await tagOf()];
    while ((await tagOf("/v1/domains/one")) === whole) await sleep(10);
    assert.equal(await tagOf(), bare);
    const { status } = await agent.post("/v1/domains/one/pause", {}, { "if-match": bare });
    assert.equal(status, 200);
    assert.notEqual(await tagOf(), bare);
  });
});

describe("a request with an idempotency key", { timeout: 200_000 }, () => {
  const key = (of: string) => ({ "idempotency-key": of });

  test("is done once, also by an agent that comes after a killed one", async () => {
    const first = await create("once", key("a"));
    await agent.kill();
    await agent.restart();
    const again = await create("once", key("a"));
    assert.deepEqual([again.status, again.body], [200, first.body]);
    assert.deepEqual(
      [first.headers["idempotency-replayed"], again.headers["idempotency-replayed"]],
      [undefined, "true"],
    );
    const other = await create("other", key("a"));
    assert.equal(other.status, 422);
    assert.match((other.body as unknown as Refusal).error, /^Idempotency-Key is "a", which another request has/);
    assert.equal((await agent.post("/v1/domains/one/pause", {}, key("a"))).status, 422);
    assert.deepEqual(await namesOf(), ["one", "once"]);
  });

  test("that was refused can be made again", async () => {
    assert.equal((await create("once", key("b"))).status, 409);
    await agent.post("/v1/domains/once/destroy");
    assert.equal((await create("once", key("b"))).status, 200);
    const { status, body } = await create("x", key(""));
    assert.equal(status, 400, (body as unknown as Refusal).error);
  });

  test("waits for nobody while the first is under way", async () => {
    await agent.post("/v1/domains/once/unpause");
    const wait = () => agent.post("/v1/domains/once/shutdown", { request: "poweroff", wait: true }, key("c"));
    const first = wait();
    let second = await wait();
    while (second.status !== 409) second = await wait();
    assert.equal((second.body as Refusal).error, 'the request with Idempotency-Key "c" is under way');
    await agent.post("/v1/domains/once/destroy");
    assert.equal(((await first).body as { reason: string }).reason, "destroyed");
    assert.deepEqual((await wait()).body, (await first).body);
  });

  test("finds the domain that an agent had begun when it was killed", async () => {
    const { body: before } = await create("before");
    const folder = agent.home.domain(before.domid + 1);
    const cut = create("begun", key("d")).catch((error: Error) => error);
    while (!existsSync(folder)) await sleep(1);
    await agent.kill();
    assert.ok((await cut) instanceof Error);
    await agent.restart();
    const { status, body } = await create("begun", key("d"));
    assert.deepEqual([status, body.domid, body.name], [200, before.domid + 1, "begun"]);
    assert.deepEqual((await create("begun", key("d"))).body, body);
    assert.deepEqual(
      (await namesOf()).filter((name) => name === "begun"),
      ["begun"],
    );
    await agent.post("/v1/domains/begun/destroy");
    await agent.post("/v1/domains/before/destroy");
  });

  test("is not done a second time if nobody knows whether it was done", async () => {
    // Another agent that never answers.
    const silent = createServer();
    const to = join(agent.home.folder, "silent.sock");
    const asked = new Promise((resolve) => silent.once("connection", resolve));
    await new Promise<void>((resolve) => silent.listen(to, resolve));
    const move = () => agent.post<Refusal>("/v1/domains/one/migrate", { to }, key("e"));
    const cut = move().catch((error: Error) => error);
    await asked;
    await agent.kill();
    assert.ok((await cut) instanceof Error);
    await agent.restart();
    const { status, body } = await move();
    assert.equal(status, 409);
    assert.match(body.error, /"e"; whether it was done is not known$/);
    silent.close();
    assert.equal((await agent.post("/v1/domains/one/unpause")).status, 200);
  });
});
