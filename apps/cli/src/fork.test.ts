/** Copies of running domains, made over the agent. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient, agentHome, type UsageSum } from "@xenoserver/agent/index.ts";
import { findProcess } from "@xenoserver/agent/spawn.ts";
import { stampGuest } from "@xenoserver/testkit";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";
import { openBridge } from "@xenoserver/toolstack/domain/bridge.ts";
import { xeno } from "./test-process.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-fork-"));
const [kernel, disk, saved] = ["kernel", "disk.img", "saved"].map((name) => join(folder, name));
const home = join(folder, "agent");
const env = { XENO_AGENT_HOME: home };

const json = async <T>(...args: string[]): Promise<T> => {
  const { status, stdout, stderr } = await xeno([...args, "--json"], { env });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as T;
};
const refused = async (message: RegExp, ...args: string[]): Promise<void> => {
  const { status, stderr } = await xeno(args, { env });
  assert.notEqual(status, 0);
  assert.match(stderr, message);
};
const isThere = (pid: number): boolean => existsSync(`/proc/${pid}`);
const names = async (): Promise<string[]> => (await json<DomainInfo[]>("list")).map(({ name }) => name);

before(async () => {
  writeFileSync(kernel!, stampGuest());
  writeFileSync(disk!, "");
  truncateSync(disk!, 1 << 20);
  await json("create", "name=one", `kernel=${kernel}`, "memory=32", "--overcommit");
});
after(async () => {
  for (const name of await names()) await xeno(["destroy", name], { env });
  await xeno(["agent", "stop"], { env });
  while (await new AgentClient(agentHome(env).socket).isThere()) await sleep(10);
  rmSync(folder, { recursive: true });
});

describe("copies of a running domain", { timeout: 200_000 }, () => {
  test("are domains of their own, which go on while the original does", async () => {
    const copies = await json<DomainInfo[]>("fork", "one", "--count", "3", "--overcommit");
    assert.deepEqual(
      copies.map(({ name }) => name),
      ["one-1", "one-2", "one-3"],
    );
    const all = await json<DomainInfo[]>("list");
    assert.deepEqual(await names(), ["one", "one-1", "one-2", "one-3"]);
    assert.equal(new Set(all.flatMap(({ uuid, domid }) => [uuid, domid])).size, 8);
    const pids = all.map(({ pid }) => pid);
    assert.deepEqual([new Set(pids).size, pids.filter((pid) => pid === pids[0]).length], [2, 1], "copies share one");
    assert.ok(all.every(({ state }) => state === "running"));
    await sleep(1000);
    const usage = await json<UsageSum[]>("usage");
    assert.deepEqual(
      usage.map(({ name, totals }) => [name, totals.vcpuUsedNs > 0 && totals.vcpuUsedNs <= totals.wallNs]),
      all.map(({ name }) => [name, true]),
    );
    assert.deepEqual(
      readdirSync(home).filter((name) => name.startsWith("fork")),
      [],
    );
    // The next copies do not take names that are taken.
    await xeno(["destroy", "one-2"], { env });
    const [again] = await json<DomainInfo[]>("fork", "one", "--overcommit");
    assert.equal(again!.name, "one-2");
    for (const name of ["one-1", "one-2", "one-3"]) await xeno(["destroy", name], { env });
  });

  test("have processes of their own where they have a weight", async () => {
    await json("create", "name=light", `kernel=${kernel}`, "memory=32", "cpu_weight=128", "--overcommit");
    const copies = await json<DomainInfo[]>("fork", "light", "--count", "2", "--overcommit");
    assert.equal(new Set(copies.map(({ pid }) => pid)).size, 2);
    assert.deepEqual(
      copies.map(({ weight }) => weight),
      [128, 128],
    );
    for (const name of ["light", "light-1", "light-2"]) await xeno(["destroy", name], { env });
  });

  test("outlive the agent, and end one by one; their process ends with the last, and leaves nothing", async () => {
    const copies = await json<DomainInfo[]>("fork", "one", "--count", "2", "--overcommit");
    const [pid] = copies.map((copy) => copy.pid) as [number];
    const agent = new AgentClient(agentHome(env).socket);
    process.kill((await agent.get<{ pid: number }>("/v1/agent")).pid, "SIGKILL");
    while (await agent.isThere()) await sleep(10);
    const found = await json<DomainInfo[]>("list");
    assert.deepEqual(
      found.map(({ name, runId }) => [name, runId]),
      [found[0]!, ...copies].map(({ name, runId }) => [name, runId]),
    );
    await xeno(["destroy", "one-1"], { env });
    assert.deepEqual(await names(), ["one", "one-2"]);
    assert.ok(isThere(pid));
    await xeno(["destroy", "one-2"], { env });
    while (isThere(pid)) await sleep(10);
    assert.deepEqual(await names(), ["one"]);
    // The new agent may just be starting one, whose folder is there before its process; then it removes what an earlier one left.
    const hasProcess = (name: string): boolean => findProcess(join(home, "zygotes", name)) !== undefined;
    while (!readdirSync(join(home, "zygotes")).every(hasProcess)) await sleep(10);
  });

  test("have network addresses of their own, and so has one from a snapshot under another name", async () => {
    const snapshot = join(folder, "with-vif");
    await json(
      "create",
      "name=net",
      `kernel=${kernel}`,
      "memory=32",
      'vif=["mac=02:00:00:00:00:01", ""]',
      "--overcommit",
    );
    await json("snapshot", "net", snapshot);
    await json("fork", "net", "--count", "2", "--overcommit");
    await json("restore", snapshot, "--name", "other", "--overcommit");
    const all = ["net", "net-1", "net-2", "other"];
    const macsOf = async (name: string): Promise<string[]> => {
      const macs = (await json<{ mac: string }[]>("network-list", name)).map(({ mac }) => mac);
      const { stdout } = await xeno(["network-list", name], { env });
      assert.deepEqual(stdout.match(/(?<= )(..:){5}../g), macs);
      return macs;
    };
    const macs: string[] = [];
    for (const name of all) macs.push(...(await macsOf(name)));
    assert.equal(new Set(macs).size, 8, `${macs}`);
    assert.ok(macs.slice(1).every((mac) => mac.startsWith("00:16:3e:")));
    await xeno(["destroy", "net"], { env });
    await json("restore", snapshot, "--overcommit");
    assert.deepEqual(await macsOf("net"), macs.slice(0, 2), "as itself it has its own");
    for (const name of all) await xeno(["destroy", name], { env });
  });

  test("are refused on a network of others where they would have what the original has", async () => {
    const bridge = await openBridge(`fork-${process.pid}`, { log: () => {} });
    const vif = `vif=["bridge=fork-${process.pid},ip=10.0.0.2"]`;
    const snapshot = join(folder, "on-bridge");
    try {
      await json("create", "name=net", `kernel=${kernel}`, "memory=32", vif, "--overcommit");
      await refused(/vif 0 of net: is on a bridge with ip=/, "fork", "net", "--overcommit");
      await json("snapshot", "net", snapshot);
      await refused(/vif 0 of net: is on a bridge with ip=/, "restore", snapshot, "--name", "other", "--overcommit");
      await xeno(["destroy", "net"], { env });
      await json("restore", snapshot, "--name", "other", "--overcommit");
      await xeno(["destroy", "other"], { env });
    } finally {
      await bridge.close();
    }
  });

  test("and snapshots go on under another name, or under their own when that is free", async () => {
    const report = await json<{ bytes: number; pausedMs: number }>("snapshot", "one", saved!);
    assert.ok(report.bytes > 8 << 20);
    await refused(/^xeno: domain one is there already\n$/, "restore", saved!, "--overcommit");
    const other = await json<DomainInfo>("restore", saved!, "--name", "other", "--overcommit");
    const [one] = await json<DomainInfo[]>("list");
    assert.notEqual(other.uuid, one!.uuid);
    await xeno(["destroy", "one"], { env });
    assert.equal((await json<DomainInfo>("restore", saved!, "--overcommit")).uuid, one!.uuid);
    await xeno(["destroy", "other"], { env });
  });

  test("are refused where they would share what only one can have, and nothing is left then", async () => {
    await refused(/^xeno: domain nobody is not there\n$/, "fork", "nobody");
    await refused(/^xeno: count is 0, expected 1 to 256\n$/, "fork", "one", "--count", "0");
    await xeno(["block-attach", "one", `${disk},raw,xvda`], { env });
    await refused(/disk xvda: is on .* itself, expected a disk on an image/, "fork", "one", "--overcommit");
    assert.deepEqual(await names(), ["one"]);
    assert.deepEqual(
      readdirSync(home).filter((name) => name.startsWith("fork")),
      [],
    );
    await xeno(["pause", "one"], { env });
    await refused(/is paused, expected it to run/, "snapshot", "one", join(folder, "x"));
    assert.equal(existsSync(join(folder, "x")), false);
  });
});
