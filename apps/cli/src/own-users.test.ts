/** Domains of root's agent are processes of users of their own, which nothing of them shows afterwards. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient, agentHome } from "@xenoserver/agent/index.ts";
import { OwnUsers } from "@xenoserver/agent/own-users.ts";
import { openImage } from "@xenoserver/storage";
import { ImageStore } from "@xenoserver/storage/images/image-store.ts";
import { spinGuest } from "@xenoserver/testkit";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";
import { xeno } from "./test-process.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-own-users-"));
const [FIRST, LAST] = [0x7810_0000, 0x7810_0fff];
const env = {
  XENO_AGENT_HOME: join(folder, "home"),
  XENO_AGENT_UIDS: `${FIRST}-${LAST}`,
  XENO_STORE: join(folder, "store"),
  XENO_TRANSLATIONS: join(folder, "translations"),
  XDG_CACHE_HOME: join(folder, "cache"),
};
const home = agentHome(env);
const agent = new AgentClient(home.socket);
const guest = join(folder, "guest");
const skip = OwnUsers.open(undefined) === undefined ? "only root with setpriv gives processes other users" : false;

const json = async <T>(...args: string[]): Promise<T> => {
  const { status, stdout, stderr } = await xeno([...args, "--json"], { env });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as T;
};
const run = async (...args: string[]): Promise<void> => {
  const { status, stderr } = await xeno(args, { env });
  assert.equal(status, 0, stderr);
};
const create = (name: string, ...more: string[]) =>
  json<DomainInfo>("create", `name=${name}`, `kernel=${guest}`, "memory=32", "--overcommit", ...more);

const statusOf = (pid: number, name: string): string =>
  new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]!;
const userOf = (pid: number): number => {
  const ids = [...statusOf(pid, "Uid").split(/\s+/), ...statusOf(pid, "Gid").split(/\s+/)];
  assert.equal(new Set(ids).size, 1, "real, effective, saved and for files, of user and group");
  assert.equal(statusOf(pid, "Groups").trim(), "");
  return Number(ids[0]);
};
const limitOf = (pid: number, name: string): string[] =>
  new RegExp(`^${name} +(\\S+) +(\\S+)`, "m").exec(readFileSync(`/proc/${pid}/limits`, "utf8"))!.slice(1);
const own = (user: number): boolean => user >= FIRST && user <= LAST;
/** Of all that is in the folder of this test. */
const owners = (at = folder): number[] =>
  readdirSync(at, { recursive: true, encoding: "utf8" }).flatMap((name) => {
    const found = statSync(join(at, name), { throwIfNoEntry: false });
    return found === undefined ? [] : [found.uid, found.gid];
  });

before(async () => {
  writeFileSync(guest, spinGuest());
  const raw = join(folder, "blank.img");
  writeFileSync(raw, new Uint8Array(1 << 20));
  const blank = await openImage(raw, { format: "raw", readOnly: true });
  await (await ImageStore.open(env.XENO_STORE)).import("blank", blank);
  await blank.close();
});
after(async () => {
  if (skip === false) {
    for (const { name } of await json<DomainInfo[]>("list")) await run("destroy", name);
    await run("agent", "stop");
    while (await agent.isThere()) await sleep(10);
    while (existsSync(home.zygotes) && readdirSync(home.zygotes).length > 0) await sleep(20);
  }
  rmSync(folder, { recursive: true, force: true });
});

test("each has a user of its own, few privileges and limits, and cannot reach another", { skip }, async () => {
  const [one, two] = [await create("one", 'disk=["blank,image,xvda"]'), await create("two")];
  const users = [one, two].map(({ pid }) => userOf(pid));
  assert.ok(users.every(own), `${users}`);
  assert.notEqual(users[0], users[1]);
  const ours = BigInt(`0x${/^CapPrm:\s*(\S+)$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]}`);
  const kept = [0, 1, 3, 10, 12, 23].reduce((all, n) => all | (1n << BigInt(n)), 0n) & ours;
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
    assert.equal(BigInt(`0x${statusOf(one.pid, set)}`), kept, set);
  assert.equal(statusOf(one.pid, "NoNewPrivs"), "1");
  assert.deepEqual(limitOf(one.pid, "Max open files"), ["4096", "4096"]);
  assert.deepEqual(limitOf(one.pid, "Max processes"), ["264", "264"]);
  assert.deepEqual(limitOf(one.pid, "Max core file size"), ["0", "0"]);

  // As whoever broke out of the first domain.
  const names = "-all,+chown,+dac_override,+fowner,+net_bind_service,+net_admin,+sys_nice";
  const inOne = (script: string) =>
    spawnSync(
      "setpriv",
      [
        ...["--no-new-privs", "--reuid", String(users[0]), "--regid", String(users[0]), "--clear-groups"],
        ...["--inh-caps", names, "--ambient-caps", names, "--bounding-set", names, "--", "/bin/sh", "-c", script],
      ],
      { encoding: "utf8" },
    );
  if (ours === (ours | kept)) {
    assert.equal(inOne(`kill -0 ${one.pid}`).status, 0, "its own");
    for (const { pid } of [two, await agent.get<{ pid: number }>("/v1/agent")]) {
      assert.notEqual(inOne(`kill -0 ${pid}`).status, 0);
      assert.notEqual(inOne(`head -c 1 /proc/${pid}/environ`).status, 0);
    }
    assert.notEqual(inOne("echo core >/proc/sys/kernel/core_pattern").status, 0, "and no settings of the kernel");
  }
});

test("the code that was compiled for root is found", {
  skip: skip || process.env["NODE_COMPILE_CACHE"] === undefined,
}, async () => {
  const { domid, pid } = (await json<DomainInfo[]>("list")).find(({ name }) => name === "one")!;
  const links = readdirSync(join(home.domain(domid), "code"));
  assert.ok(links.length > 0 && links.every((name) => name.endsWith(`-${userOf(pid)}`)), `${links}`);
});

test("what it makes for others is root's, and nothing else is left of it", { skip }, async () => {
  const saved = join(folder, "saved", "one.save");
  mkdirSync(join(folder, "saved"));
  await run("save", "one", saved);
  assert.equal(statSync(saved).uid, 0);
  const restored = await json<DomainInfo>("restore", saved);
  assert.ok(own(userOf(restored.pid)));
  const copies = await json<DomainInfo[]>("fork", "one", "--count", "2");
  for (const { pid } of copies) assert.ok(own(userOf(pid)));
  assert.equal(userOf(copies[0]!.pid), userOf(copies[1]!.pid), "they share a process");
  assert.notEqual(userOf(copies[0]!.pid), userOf(restored.pid));
  assert.deepEqual(limitOf(copies[0]!.pid, "Max processes"), ["4096", "4096"]);
  assert.ok(readdirSync(join(env.XENO_STORE, "overlays")).length >= 3, "of the first and of its copies");
  for (const { name } of await json<DomainInfo[]>("list")) await run("destroy", name);
  await run("agent", "stop");
  while (await agent.isThere()) await sleep(10);
  while (readdirSync(home.zygotes).length > 0) await sleep(20);
  assert.deepEqual(new Set(owners()), new Set([0]));
});

test("one with a shared folder, whose files have the guest's owners, stays root's", { skip }, async () => {
  mkdirSync(join(folder, "shared"));
  const { pid } = await create("shares", `p9=["tag=share,path=${join(folder, "shared")},security_model=none"]`);
  assert.equal(userOf(pid), 0);
  assert.equal(BigInt(`0x${statusOf(pid, "CapEff")}`) & (1n << 21n), 0n, "and may not administer");
});

test("an agent that is killed finds its domains again, whoever they are", { skip }, async () => {
  const { pid } = await create("stays");
  process.kill((await agent.get<{ pid: number }>("/v1/agent")).pid, "SIGKILL");
  while (await agent.isThere()) await sleep(10);
  const found = (await json<DomainInfo[]>("list")).find(({ name }) => name === "stays")!;
  assert.equal(found.pid, pid);
  await run("destroy", "stays");
  while (existsSync(`/proc/${pid}`)) await sleep(10);
});

test("a range that is none is told", { skip }, () => {
  const sentence = /^XENO_AGENT_UIDS is "5", expected FIRST-LAST, or 0 for none$/;
  assert.throws(() => OwnUsers.open("5"), { name: "AgentError", message: sentence });
  assert.throws(() => OwnUsers.open("7-6"), /XENO_AGENT_UIDS/);
  assert.equal(OwnUsers.open("0"), undefined);
});
