/** Domains under an agent, from the outside: the agent and its domains are killed, and nothing is lost or left behind. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { get as httpGet } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient, agentHome, type UsageSum } from "@xenoserver/agent/index.ts";
import { findProcess } from "@xenoserver/agent/spawn.ts";
import { spinGuest } from "@xenoserver/testkit";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";
import { xeno } from "./test-process.ts";
import { memoryBytes } from "./verbs/domains.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-agent-"));
const env = { XENO_AGENT_HOME: folder };
const home = agentHome(env);
const guest = join(folder, "guest");
const agent = new AgentClient(home.socket);

const run = async (...args: string[]) => {
  const { status, stdout, stderr } = await xeno(args, { env });
  assert.equal(status, 0, stderr);
  return stdout;
};
const json = async <T>(...args: string[]): Promise<T> => JSON.parse(await run(...args, "--json")) as T;
const create = (name: string, ...more: string[]) =>
  json<DomainInfo>("create", `name=${name}`, `kernel=${guest}`, "memory=32", "--paused", "--overcommit", ...more);
const names = (domains: readonly DomainInfo[]): string[] => domains.map(({ name }) => name);

const killAgent = async (): Promise<void> => {
  const { pid } = await agent.get<{ pid: number }>("/v1/agent");
  process.kill(pid, "SIGKILL");
  while (await agent.isThere()) await sleep(10);
};

before(() => writeFileSync(guest, spinGuest()));
after(async () => {
  for (const { name } of await json<DomainInfo[]>("list")) await run("destroy", name);
  await run("agent", "stop");
  while (await agent.isThere()) await sleep(10);
  rmSync(folder, { recursive: true });
});

test("the first command starts an agent; a domain is listed as xl lists it", async () => {
  const { domid, state } = await create("one");
  assert.deepEqual([domid, state], [1, "paused"]);
  assert.equal(
    await run("list"),
    "Name                                        ID   Mem VCPUs\tState\tTime(s)\n" +
      `one                                          1    32     1     --p---       0.0\n`,
  );
});

test("a domain's weight and cap are set and told as with xl", async () => {
  const weight = 128;
  const rows = async () => (await run("sched-credit2")).trimEnd().split("\n");
  const set = await json<DomainInfo>("sched-credit2", "-d", "one", "-w", String(weight), "-c", "50");
  assert.deepEqual([set.weight, set.capPercent], [weight, 50]);
  assert.deepEqual(
    (await rows()).map((row) => row.trim().split(/\s+/)),
    [
      ["Name", "ID", "Weight", "Cap"],
      ["one", String(set.domid), String(weight), "50"],
    ],
  );
  assert.deepEqual(await json("sched-credit2", "-d", "one"), [
    { name: "one", domid: set.domid, weight, capPercent: 50 },
  ]);
  await run("sched-credit2", "-d", "one", "-c", "0");
  const refused: [args: string[], sentence: RegExp][] = [
    [["-w", "128"], /^xeno: weight is 128, of no domain: expected -d DOMAIN beside it\n$/],
    [["-c", "50"], /^xeno: cap is 50, of no domain: expected -d DOMAIN beside it\n$/],
    [["-d", "one", "-w", "0"], /^xeno: weight of one: 0, expected 1 to 65535\n$/],
  ];
  for (const [args, sentence] of refused) {
    const { status, stderr } = await xeno(["sched-credit2", ...args], { env });
    assert.notEqual(status, 0);
    assert.match(stderr, sentence);
  }
});

const pinsNot =
  process.platform !== "linux" || spawnSync("taskset", ["-c", "1", "true"]).status !== 0
    ? "no thread can be pinned to processor 1 here"
    : false;

test("a vcpu is pinned as with xl, and is listed so", { skip: pinsNot }, async () => {
  const settings = async () => (await agent.get<DomainInfo>("/v1/domains/one?view=settings")).affinity;
  const column = async () => (await run("vcpu-list", "one")).trimEnd().split("  ").at(-1);
  await run("vcpu-pin", "one", "0", "0-1,^0");
  assert.deepEqual([await settings(), await column()], [["1"], "1 / all"]);
  assert.deepEqual((await json<DomainInfo>("vcpu-pin", "one", "all", "all")).affinity, ["all"]);
  assert.deepEqual([await settings(), await column()], [["all"], "all / all"]);
  const refused: [vcpu: string, cpus: string, sentence: RegExp][] = [
    ["1", "0", /vcpu of one is 1, expected 0 to 0, or all/],
    ["0", "9999", /cpus of vcpu 0 has processor 9999, expected those that there are: /],
    ["0", "^all", /cpus is "\^all", expected processors such as "0-3,\^1" or "all"/],
    ["first", "0", /Expected a whole number/],
  ];
  for (const [vcpu, cpus, sentence] of refused) {
    const { status, stderr } = await xeno(["vcpu-pin", "one", vcpu, cpus], { env });
    assert.notEqual(status, 0);
    assert.match(stderr, sentence);
  }
  const { status, stderr } = await xeno(["create", "name=two", `kernel=${guest}`, "cpus=9999", "memory=32"], { env });
  assert.notEqual(status, 0);
  assert.match(stderr, /cpus of vcpu 0 has processor 9999, expected those that there are: /);
  assert.deepEqual(names(await json<DomainInfo[]>("list")), ["one"]);
});

test("devices are listed with what xenstore has of them", async () => {
  const disk = join(folder, "disk.img");
  writeFileSync(disk, new Uint8Array(4096));
  await run("block-attach", "one", `${disk},raw,xvda`);
  await run("network-attach", "one", "net=none,mac=00:16:3e:00:00:01");
  assert.deepEqual((await run("block-list", "one")).split(/\s+/).slice(7, 14), [
    ...["51712", "0", "51712", "1", "-1", "-1", "/local/domain/0/backend/vbd/1/51712"],
  ]);
  assert.match(
    await run("network-list", "one"),
    /\n0 {3}0 {2}00:16:3e:00:00:01 0 .* \/local\/domain\/0\/backend\/vif\/1\/0/,
  );
  const [found] = await json<{ vdev: string; sizeBytes: number }[]>("block-list", "one");
  assert.deepEqual([found!.vdev, found!.sizeBytes], ["xvda", 4096]);
});

test("what goes on is shown: to people, to Prometheus, and change by change", async () => {
  const looks = (await run("top", "--delay", "0.2", "--iterations", "2")).split("\n");
  assert.match(looks[0]!, /^NAME +STATE +CPU\(sec\) +CPU\(%\) +MEM\(k\)/);
  assert.match(looks[1]!, /^one +--p--- +0\.0 +- +32384 +1 +0 +0 +0 +0$/);
  assert.match(looks[3]!, /^one +--p--- +0\.0 +0\.0 /);
  assert.equal(await run("dmesg", "one"), "");
  const metrics = await new Promise<string>((resolve, reject) => {
    httpGet({ socketPath: home.socket, path: "/metrics", agent: false }, (response) => {
      let text = "";
      response.on("data", (bytes: Buffer) => (text += bytes.toString()));
      response.on("end", () => resolve(text));
    }).on("error", reject);
  });
  assert.match(metrics, /^xeno_domain_disk_size_bytes\{domain="one",domid="1",device="xvda"\} 4096$/m);
  const watching = xeno(["xenstore-watch", "one", "/local/domain/1/data", "-n", "1"], {
    env,
    onOutput: (_, soFar) => {
      if (soFar === "/local/domain/1/data\n") void run("xenstore-write", "one", "/local/domain/1/data/x", "1");
    },
  });
  assert.equal((await watching).stdout, "/local/domain/1/data\n/local/domain/1/data/x\n");
  const refused = await xeno(["xenstore-watch", "one", "no//path"], { env });
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /^xeno: xenstore no\/\/path: /);
});

test("an agent that was killed finds its domains again, as they were", async () => {
  const [before] = await json<DomainInfo[]>("list");
  await killAgent();
  assert.notEqual(findProcess(home.domain(1)), undefined);
  const [after] = await json<DomainInfo[]>("list");
  assert.deepEqual([after!.pid, after!.runId, after!.state], [before!.pid, before!.runId, "paused"]);
});

test("xenstore is the domain's own: what is in it outlives the agent", async () => {
  const path = "/local/domain/1/data/kept";
  await run("xenstore-write", "one", path, "before");
  const tree = await run("xenstore-ls", "one");
  await killAgent();
  assert.equal(await run("xenstore-read", "one", path), "before\n");
  assert.equal(await run("xenstore-ls", "one"), tree);
  await run("agent", "stop");
  while (await agent.isThere()) await sleep(10);
  await run("xenstore-write", "one", path, "after");
  assert.equal(await run("xenstore-ls", "one"), tree.replace('kept = "before"', 'kept = "after"'));
  await run("xenstore-rm", "one", path);
});

test("usage is kept once, however often the agent dies between a domain's records", async () => {
  await run("unpause", "one");
  for (let n = 0; n < 2; n++) {
    await json("usage");
    await run("pause", "one");
    await killAgent();
    await run("unpause", "one");
  }
  await run("pause", "one");
  const [sum] = await json<UsageSum[]>("usage");
  const { usage } = await json<DomainInfo>("unpause", "one");
  assert.ok(sum!.records > 8);
  // What the domain counted by itself and what the journal has are one account, but for what came since.
  assert.ok(sum!.totals.vcpuUsedNs > 0 && sum!.totals.vcpuUsedNs <= usage.vcpuUsedNs);
  assert.ok(sum!.totals.wallNs <= usage.wallNs);
  const [again] = await json<UsageSum[]>("usage");
  assert.ok(again!.totals.vcpuUsedNs >= usage.vcpuUsedNs);
});

test("a domain that was killed is put away with its usage; what ended while no agent ran, too", async () => {
  const two = await create("two");
  process.kill(two.pid, "SIGKILL");
  while (names(await json<DomainInfo[]>("list")).includes("two")) await sleep(20);
  const three = await create("three");
  await killAgent();
  process.kill(three.pid, "SIGKILL");
  while (findProcess(home.domain(three.domid)) !== undefined) await sleep(10);
  assert.deepEqual(names(await json<DomainInfo[]>("list")), ["one"]);
  assert.deepEqual(readdirSync(join(folder, "domains")), ["1"]);
  assert.deepEqual(
    (await json<UsageSum[]>("usage")).map(({ name }) => name),
    ["one", "two", "three"],
  );
});

test("an agent that dies while it creates a domain leaves a domain or nothing", async () => {
  for (const delayMs of [0, 60, 150]) {
    const creating = xeno(["create", `name=at${delayMs}`, `kernel=${guest}`, "memory=32", "--paused", "--overcommit"], {
      env,
    });
    while (
      !(await agent.get<{ pid: number }>("/v1/agent").then(
        () => true,
        () => false,
      ))
    )
      await sleep(10);
    await sleep(delayMs);
    await killAgent();
    await creating;
    const there = await json<DomainInfo[]>("list");
    assert.deepEqual(readdirSync(join(folder, "domains")).sort(), there.map(({ domid }) => String(domid)).sort());
    for (const { name } of there) if (name !== "one") await run("destroy", name);
  }
});

test("what is asked wrongly is a sentence and harms nothing", async () => {
  const refused: [args: string[], message: RegExp][] = [
    [["create", "name=one", `kernel=${guest}`, "memory=32", "--overcommit"], /^xeno: domain one is there already\n$/],
    [["create", "name=x", "kernel=/nowhere", "--overcommit"], /^xeno: kernel \/nowhere: no such file\n$/],
    [["create", "name=x", `kernel=${guest}`, "memory=many"], /memory is "many", expected/],
    [["pause", "nobody"], /^xeno: domain nobody is not there\n$/],
    [["mem-set", "one", "64"], /^xeno: memory of one: 64 MiB, expected 4 to 32 MiB\n$/],
    [["shutdwon", "one"], /Did you mean shutdown\?/],
    [["xenstore-read", "one", "/nothing"], /^xeno: xenstore \/nothing: no such node\n$/],
  ];
  for (const [args, message] of refused) {
    const { status, stderr } = await xeno(args, { env });
    assert.notEqual(status, 0);
    assert.match(stderr, message);
  }
  assert.deepEqual(names(await json<DomainInfo[]>("list")), ["one"]);
  const { domid } = await json<DomainInfo>("rename", "one", "uno");
  assert.equal(await run("xenstore-read", "uno", `/local/domain/${domid}/name`), "uno\n");
  await run("destroy", "uno");
  assert.equal(existsSync(home.domain(domid)), false);
});

test("sizes are written as xl has them", () => {
  assert.deepEqual(["64", "64m", "1g", "512k"].map(memoryBytes), [2 ** 26, 2 ** 26, 2 ** 30, 2 ** 19]);
});
