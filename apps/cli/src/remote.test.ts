/** Agents that reach one another by TLS, as on two machines. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient, agentHome } from "@xenoserver/agent/index.ts";
import { STAMP_TEXT, stampGuest } from "@xenoserver/testkit";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";
import { type Outcome, xeno } from "./test-process.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-remote-"));
const kernel = join(folder, "kernel");
const [left, right, stranger] = ["left", "right", "stranger"].map((name) => join(folder, name)) as [
  string,
  string,
  string,
];
let ports: readonly number[];

const run = (home: string, args: readonly string[], agent = ""): Promise<Outcome> =>
  xeno(args, { env: { XENO_AGENT_HOME: home, XENO_AGENT: agent } });
async function ok(outcome: Promise<Outcome>): Promise<string> {
  const { status, stdout, stderr } = await outcome;
  assert.equal(status, 0, stderr);
  return stdout;
}
const list = async (home: string, agent = ""): Promise<DomainInfo[]> =>
  JSON.parse(await ok(run(home, ["list", "--json"], agent))) as DomainInfo[];

/** Ports that nobody has now. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, () => {
      const server = createServer();
      return new Promise<Server>((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
    }),
  );
  const numbers = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return numbers;
}

/** The guest of a domain has gone through its memory since. */
async function goesOn(home: string): Promise<void> {
  const rounds = (): number =>
    readdirSync(join(home, "domains"))
      .map((domid) => readFileSync(join(home, "domains", domid, "log"), "utf8").split(STAMP_TEXT.trim()).length)
      .reduce((sum, count) => sum + count, 0);
  for (const until = rounds() + 2; rounds() < until; await sleep(10));
}

before(async () => {
  writeFileSync(kernel, stampGuest());
  ports = await freePorts(3);
  await ok(run(left, ["agent", "init", "--host", "localhost", "--listen", `127.0.0.1:${ports[0]}`]));
  await ok(run(left, ["agent", "invite", right, "--host", "localhost", "--listen", `127.0.0.1:${ports[1]}`]));
  await ok(run(stranger, ["agent", "init", "--host", "localhost", "--listen", `127.0.0.1:${ports[2]}`]));
  for (const home of [left, right]) await ok(run(home, ["list"]));
});
after(async () => {
  for (const home of [left, right]) {
    for (const { name } of await list(home)) await run(home, ["destroy", name]);
    await run(home, ["agent", "stop"]);
    while (await new AgentClient(agentHome({ XENO_AGENT_HOME: home }).socket).isThere()) await sleep(10);
  }
  rmSync(folder, { recursive: true });
});

describe("agents of two servers", { timeout: 200_000 }, () => {
  test("let in who has a certificate of their authority, and nobody else", async () => {
    const at = `localhost:${ports[1]}`;
    assert.deepEqual(await list(left, at), []);
    assert.match((await run(stranger, ["list"], at)).stderr, /^xeno: server localhost:\d+: .+\n$/);
    assert.match((await run(join(folder, "none"), ["list"], at)).stderr, /has no certificate for server localhost:/);
    assert.match((await run(left, ["list"], `127.0.0.1:${ports[1]}`)).stderr, /does not match certificate's altnames/);
    assert.match(
      (await run(left, ["list"], `localhost:${ports[2]}`)).stderr,
      /^xeno: server localhost:\d+: .*ECONNREFUSED/,
    );
    const refused = await new Promise<string>((resolve) => {
      const options = { host: "localhost", port: ports[1], path: "/v1/agent", rejectUnauthorized: false, agent: false };
      request(options, (response) => resolve(`answered ${response.statusCode}`))
        .on("error", (error) => resolve(error.message))
        .end();
    });
    assert.doesNotMatch(refused, /answered/);
    for (const home of [left, right])
      for (const name of readdirSync(join(home, "tls")))
        assert.equal(statSync(join(home, "tls", name)).mode & 0o077, 0, `${name} is its user's only`);
    assert.equal(readdirSync(join(right, "tls")).includes("authority.key"), false, "who is invited cannot invite");
  });

  test("are not set up twice, or by who may not", async () => {
    assert.match(
      (await run(right, ["agent", "init"])).stderr,
      /has a certificate of another server's authority already/,
    );
    assert.match((await run(right, ["agent", "invite", join(folder, "x"), "--host", "x"])).stderr, /has no authority/);
    assert.match((await run(left, ["agent", "invite", right, "--host", "x"])).stderr, /has certificates already/);
    assert.match(
      (await run(left, ["agent", "init", "--listen", "nowhere"])).stderr,
      /listen is "nowhere", expected PORT/,
    );
    mkdirSync(join(folder, "empty"));
    assert.match((await run(left, ["agent", "invite", join(folder, "empty")])).stderr, /no host is named/);
  });

  test("send a domain back and forth", async () => {
    await ok(run(left, ["create", "name=mover", `kernel=${kernel}`, "memory=32", "--overcommit"]));
    await goesOn(left);
    await ok(run(left, ["migrate", "mover", `localhost:${ports[1]}`, "--overcommit"]));
    assert.deepEqual([(await list(left)).length, (await list(left, `localhost:${ports[1]}`))[0]!.name], [0, "mover"]);
    await goesOn(right);
    assert.deepEqual(readdirSync(join(left, "domains")), []);
    // From afar, too: whoever asks need not be where the domain is.
    await ok(run(left, ["migrate", "mover", `localhost:${ports[0]}`, "--overcommit"], `localhost:${ports[1]}`));
    assert.deepEqual([(await list(left)).length, (await list(right)).length], [1, 0]);
    await goesOn(left);
  });

  test("keep a domain where it is when the way between them breaks", async () => {
    const sockets = new Set<Socket>();
    let limit = 0;
    const proxy = createServer((near) => {
      const far = connect(ports[1]!, "127.0.0.1");
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(from);
        from.on("error", () => {});
        from.on("close", () => to.destroy());
        from.on("data", (bytes: Buffer) => {
          limit -= bytes.length;
          if (limit < 0) for (const socket of sockets) socket.destroy();
          else to.write(bytes);
        });
      }
    });
    await new Promise<void>((resolve) => proxy.listen(ports[2], "127.0.0.1", resolve));
    const at = `localhost:${ports[2]}`;
    for (limit of [100_000, 3_000_000, 7_000_000]) {
      const { status, stderr } = await run(left, ["migrate", "mover", at, "--overcommit"]);
      assert.equal(status, 1);
      assert.match(stderr, /^xeno: .+\n$/);
      assert.deepEqual(
        (await list(left)).map(({ state }) => state),
        ["running"],
      );
      await goesOn(left);
      for (const until = performance.now() + 40_000; readdirSync(join(right, "domains")).length > 0; await sleep(50))
        assert.ok(performance.now() < until, "nothing is left there");
    }
    limit = Number.POSITIVE_INFINITY;
    await ok(run(left, ["migrate", "mover", at, "--overcommit"]));
    await goesOn(right);
    proxy.close();
    for (const socket of sockets) socket.destroy();
  });
});
