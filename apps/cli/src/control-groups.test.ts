/** Domains' processes in control groups of a real kernel, where this process may make some: `npm run confinement-checks` has a machine for that. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { DomainGroups } from "@xenoserver/agent/domain-groups.ts";
import { AgentClient, agentHome } from "@xenoserver/agent/index.ts";
import { groupFolderOf, openDomainsGroup } from "@xenoserver/agent/own-group.ts";
import { spinGuest } from "@xenoserver/testkit";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";

const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), "xeno-control-groups-"));
/** Also moves this process to a leaf, so that the agent, which is not alone here, may have the group above. */
const within = openDomainsGroup();
const cgroup = within === undefined ? "0" : dirname(within.folder);
const env = { XENO_AGENT_HOME: join(folder, "home"), XENO_AGENT_CGROUP: cgroup, XENO_AGENT_ZYGOTE: "0" };
const home = agentHome(env);
const agent = new AgentClient(home.socket);
const guest = join(folder, "guest");
const skip = within?.controllers.length === 2 ? false : "this process has no group of its own with memory and pids";

/** As long as it takes: where the kernel is interpreted, half a minute is not enough. */
async function startAgent(): Promise<void> {
  mkdirSync(home.folder, { recursive: true });
  const main = fileURLToPath(new URL("main.ts", import.meta.url));
  const log = openSync(home.log, "a");
  const flags = process.execArgv.filter((flag) => !flag.startsWith("--test"));
  const child = spawn(process.execPath, [...flags, main, "agent", "run"], {
    stdio: ["ignore", log, log],
    env: { ...process.env, ...env },
  });
  child.unref();
  closeSync(log);
  while (!(await agent.isThere())) {
    if (child.exitCode !== null || child.signalCode !== null) assert.fail(readFileSync(home.log, "utf8"));
    await sleep(50);
  }
}
const create = (name: string): Promise<DomainInfo> =>
  agent.post("/v1/domains", { spec: { name, kernel: guest, memory: 32, maxmem: 64 }, overcommit: true });
const list = async () => (await agent.get<{ domains: DomainInfo[] }>("/v1/domains")).domains;
const destroy = (name: string) => agent.post(`/v1/domains/${name}/destroy`, {});
const killAgent = async (): Promise<void> => {
  const { pid } = await agent.get<{ pid: number }>("/v1/agent");
  process.kill(pid, "SIGKILL");
  while (await agent.isThere()) await sleep(10);
};
const groupOf = (pid: number): string =>
  groupFolderOf(readFileSync(`/proc/${pid}/cgroup`, "utf8"), readFileSync("/proc/self/mountinfo", "utf8"))!;
const number = (group: string, file: string): number => Number(readFileSync(join(group, file), "utf8"));
const groups = (): string[] =>
  readdirSync(within!.folder).filter((name) => existsSync(join(within!.folder, name, "cgroup.procs")));
const gone = async (group: string): Promise<void> => {
  while (existsSync(group)) await sleep(20);
};

before(async () => {
  writeFileSync(guest, spinGuest());
  if (skip === false) await startAgent();
});
after(async () => {
  if (skip === false) {
    for (const { name } of await list()) await destroy(name);
    await agent.post("/v1/agent/stop", {});
    while (groups().length > 0) {
      await sleep(50);
      await new DomainGroups(home.groups, undefined).sweep();
    }
  }
  rmSync(folder, { recursive: true, force: true });
});

test("a domain's process is in a group of its own from the start, with limits, until it is destroyed", {
  skip,
}, async () => {
  const { pid } = await create("one");
  const group = groupOf(pid);
  assert.equal(dirname(group), within!.folder);
  assert.match(basename(group), /^domain-1-[0-9a-f]{8}$/);
  assert.equal(readFileSync(join(group, "cgroup.procs"), "utf8"), `${pid}\n`);
  const limit = number(group, "memory.max");
  assert.ok(limit >= (64 + 512 + 64) * MIB && limit < (64 + 512 + 65) * MIB, `${limit}`);
  assert.equal(number(group, "pids.max"), 256 + 8);
  const [memory, tasks] = [number(group, "memory.current"), number(group, "pids.current")];
  // All that it ever had is counted here, not where it was started.
  assert.ok(memory > 20 * MIB && tasks >= readdirSync(`/proc/${pid}/task`).length, `${memory}, ${tasks}`);
  console.log(`one domain: ${Math.round(memory / MIB)} of ${limit / MIB} MiB, ${tasks} tasks`);
  await agent.post("/v1/domains/one/memory-set", { targetBytes: 64 * MIB });
  assert.equal(number(group, "memory.max"), limit, "it has room for that from the start");
  await destroy("one");
  await gone(group);
  assert.deepEqual(
    readdirSync(home.groups).filter((name) => name.startsWith("domain")),
    [],
  );
});

test("an agent that was killed finds the groups of its domains again, and removes those of domains that are gone", {
  skip,
}, async () => {
  const [stays, goes] = [await create("stays"), await create("goes")];
  const [staying, going] = [groupOf(stays.pid), groupOf(goes.pid)];
  // What a domain's process has started, as passt, is in its group.
  const helper = spawn("sleep", ["1000"], { stdio: "ignore" });
  const helperEnd = new Promise((resolve) => helper.on("exit", (_, signal) => resolve(signal)));
  writeFileSync(join(going, "cgroup.procs"), String(helper.pid));
  await killAgent();
  process.kill(goes.pid, "SIGKILL");
  await startAgent();
  assert.deepEqual(
    (await list()).map(({ name }) => name),
    ["stays"],
  );
  await gone(going);
  assert.equal(await helperEnd, "SIGKILL");
  assert.equal(groupOf(stays.pid), staying);
  await destroy("stays");
  await gone(staying);
});

test("copies share a group, whose limits grow with each", { skip }, async () => {
  const { pid } = await create("first");
  const limit = number(groupOf(pid), "memory.max");
  const copies = await agent.post<DomainInfo[]>("/v1/domains/first/fork", { count: 2, overcommit: true });
  const [one, two] = copies.map((copy) => groupOf(copy.pid));
  assert.equal(one, two);
  assert.match(basename(one!), /^zygote-/);
  assert.equal(number(one!, "memory.max"), 2 * limit);
  assert.equal(number(one!, "pids.max"), 2 * (256 + 8));
  for (const { name } of [...copies, { name: "first" }]) await destroy(name);
  await gone(one!);
});

test("who takes more than its limit is ended, and who starts too many is refused", { skip }, async () => {
  const own = join(folder, "domains", "99");
  mkdirSync(own, { recursive: true });
  const records = new DomainGroups(join(folder, "records"), within);
  const procs = records.make(own, { memoryBytes: 100 * MIB, tasks: 40 })!;
  writeFileSync(join(procs, "..", "memory.swap.max"), "0");
  const inside = (script: string) =>
    spawnSync("/bin/sh", ["-c", `echo $$ >"$0"; exec "$@"`, procs, process.execPath, "-e", script], {
      encoding: "utf8",
    });
  assert.equal(inside("Buffer.alloc(10 << 20, 1)").status, 0);
  assert.equal(inside("Buffer.alloc(300 << 20, 1)").signal, "SIGKILL");
  const bomb = inside(`
    const { spawn } = require("node:child_process");
    const all = Array.from({ length: 60 }, () => spawn("sleep", ["1"]).on("error", () => {}));
    console.log(all.filter(({ pid }) => pid !== undefined).length);
  `);
  assert.ok(Number(bomb.stdout) > 0 && Number(bomb.stdout) < 40, bomb.stdout + bomb.stderr);
  rmSync(own, { recursive: true });
  await records.sweep();
  assert.equal(existsSync(join(procs, "..")), false);
});
