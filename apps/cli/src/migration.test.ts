/** Domains that move between two agents, whatever is killed meanwhile. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient, agentHome, type UsageSum } from "@xenoserver/agent/index.ts";
import { findProcess } from "@xenoserver/agent/spawn.ts";
import { ImageStore } from "@xenoserver/storage";
import { STAMP_TEXT, stampGuest } from "@xenoserver/testkit";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";
import type { MigrationReport } from "@xenoserver/toolstack/migrate/index.ts";
import { type Outcome, xeno } from "./test-process.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-migration-"));
const [kernel, disk] = [join(folder, "kernel"), join(folder, "disk.img")];

/** An agent and its domains. */
class Server {
  readonly folder: string;
  readonly #env: Readonly<Record<string, string>>;
  readonly #client: AgentClient;

  constructor(name: string) {
    this.folder = join(folder, name);
    this.#env = { XENO_AGENT_HOME: this.folder, XENO_STORE: join(folder, `${name}-store`) };
    this.#client = new AgentClient(agentHome(this.#env).socket);
  }
  xeno(...args: string[]): Promise<Outcome> {
    return xeno(args, { env: this.#env });
  }
  async json<T>(...args: string[]): Promise<T> {
    const { status, stdout, stderr } = await this.xeno(...args, "--json");
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout) as T;
  }
  list(): Promise<DomainInfo[]> {
    return this.json<DomainInfo[]>("list");
  }
  store(): Promise<ImageStore> {
    return ImageStore.open(this.#env["XENO_STORE"]!);
  }
  create(of = `${disk},raw,xvda`): Promise<DomainInfo> {
    return this.json("create", "name=mover", `kernel=${kernel}`, "memory=32", `disk=['${of}']`, "--overcommit");
  }
  migrate(to: Server, ...options: string[]): Promise<Outcome> {
    return this.xeno("migrate", "mover", to.folder, "--overcommit", "--json", ...options);
  }
  /** The guest has gone through its memory since. */
  async goesOn(): Promise<void> {
    const [{ domid }] = (await this.json<DomainInfo[]>("list", "mover")) as [DomainInfo];
    const rounds = (): number =>
      readFileSync(join(this.folder, "domains", String(domid), "log"), "utf8").split(STAMP_TEXT.trim()).length;
    const until = rounds() + 2;
    await waitUntil(
      () => rounds() >= until,
      async () => `${this.folder} has a domain that stands still: ${JSON.stringify(await this.list())}`,
    );
  }
  get folders(): string[] {
    return readdirSync(join(this.folder, "domains"));
  }
  /** Its domains' folders with what is in them. */
  contents(): string {
    const all = this.folders.map((name) => `${name}: ${readdirSync(join(this.folder, "domains", name)).join(" ")}`);
    return all.join("; ") || "no folder";
  }
  async killAgent(): Promise<void> {
    const { pid } = await this.#client.get<{ pid: number }>("/v1/agent");
    process.kill(pid, "SIGKILL");
    while (await this.#client.isThere()) await sleep(10);
  }
  /** Kills the process of the domain that is there, or arrives. */
  killDomain(): boolean {
    const pids = this.folders.map((name) => findProcess(join(this.folder, "domains", name)));
    const pid = pids.find((found) => found !== undefined);
    if (pid !== undefined) process.kill(pid, "SIGKILL");
    return pid !== undefined;
  }
  async stop(): Promise<void> {
    for (const { name } of await this.list()) await this.xeno("destroy", name);
    await this.xeno("agent", "stop");
    while (await this.#client.isThere()) await sleep(10);
  }
}
const [here, there] = [new Server("here"), new Server("there")];

before(async () => {
  writeFileSync(kernel, stampGuest());
  writeFileSync(disk, "");
  truncateSync(disk, 1 << 20);
  // Whoever moves a domain to an agent that is not there starts it, with an image store that is not its own.
  await Promise.all([here.list(), there.list()]);
});
after(async () => {
  await Promise.all([here.stop(), there.stop()]);
  rmSync(folder, { recursive: true });
});

describe("a domain that moves to another agent", { timeout: 500_000 }, () => {
  test("is there and no longer here, is counted from zero, and comes back", async () => {
    await here.create();
    await here.goesOn();
    await sleep(500);
    const { status, stdout, stderr } = await here.migrate(there);
    assert.equal(status, 0, stderr);
    const report = JSON.parse(stdout) as MigrationReport;
    assert.ok(report.sentBytes > 8 << 20 && report.downtimeMs <= report.totalMs);
    assert.deepEqual([await here.list(), here.folders], [[], []]);
    const [{ name, state }] = (await there.list()) as [DomainInfo];
    assert.deepEqual([name, state], ["mover", "running"]);
    await there.goesOn();
    const [atHere] = await here.json<UsageSum[]>("usage");
    const [atThere] = await there.json<UsageSum[]>("usage");
    assert.ok(atHere!.totals.vcpuUsedNs > 0);
    assert.ok(atThere!.totals.vcpuUsedNs <= atThere!.totals.wallNs, "its time here is not counted again there");
    assert.equal((await there.migrate(here)).status, 0);
    assert.deepEqual([(await there.list()).length, there.folders], [0, []]);
    await here.goesOn();
  });

  test("goes and comes back before all of its memory has", async () => {
    for (const [from, to] of [
      [here, there],
      [there, here],
    ] as const) {
      const { status, stdout, stderr } = await from.migrate(to, "--postcopy");
      assert.equal(status, 0, stderr);
      const report = JSON.parse(stdout) as MigrationReport;
      assert.deepEqual([report.rounds, report.laterFrames! >= report.fetchedFrames!], [1, true]);
      assert.deepEqual([await from.list(), from.folders], [[], []]);
      await to.goesOn();
    }
  });

  test("stays where it is when it is refused there", async () => {
    const other = await there.json<DomainInfo>("create", "name=mover", `kernel=${kernel}`, "memory=32", "--overcommit");
    const { status, stderr } = await here.migrate(there);
    assert.notEqual(status, 0);
    assert.equal(stderr, "xeno: domain mover is there already\n");
    await there.xeno("destroy", String(other.domid));
    await here.xeno("pause", "mover");
    assert.match((await here.migrate(there)).stderr, /^xeno: domain mover is paused, expected it to run\n$/);
    await here.xeno("unpause", "mover");
    await here.goesOn();
    assert.deepEqual(there.folders, [], "no place is kept");
  });

  for (const [victim, server] of Object.entries({ "that it leaves": here, "that it goes to": there }))
    test(`is on one server, or none, when its process on the one ${victim} is killed`, async () => {
      for (const delayMs of [0, 300, 600]) {
        if ((await here.list()).length === 0) await here.create();
        await here.goesOn();
        const moving = here.migrate(there);
        while (there.folders.length === 0) await sleep(5);
        await sleep(delayMs);
        server.killDomain();
        const { stderr } = await moving;
        const [atHere, atThere] = await settledLists();
        const count = atHere.length + atThere.length;
        assert.ok(count <= 1, `after ${delayMs} ms it runs twice: ${stderr}`);
        if (server === there && atThere.length === 0 && count === 0)
          assert.match(stderr, /^$|^xeno: the domain has moved, and ended there /, "it had moved and was killed");
        if (atThere.length === 1) await there.goesOn();
        if (atHere.length === 1) await here.goesOn();
        assert.deepEqual([here.folders.length, there.folders.length], [atHere.length, atThere.length]);
        if (atThere.length === 1) await there.xeno("destroy", "mover");
      }
    });

  test("takes its disk along to another image store, of which nothing stays where its process is killed", async () => {
    const content = randomBytes(1 << 20);
    const [near, far] = [await here.store(), await there.store()];
    const source = { info: { sizeBytes: content.length, readOnly: true } };
    await near.import("base:1", {
      ...source,
      read: async (offset, into) => {
        let at = offset;
        for (const part of into) part.set(content.subarray(at, (at += part.length)));
      },
    });
    if ((await here.list()).length > 0) await here.xeno("destroy", "mover");
    await here.create("base:1,image,xvda");
    for (const delayMs of [300, 900]) {
      const moving = here.migrate(there);
      while (there.folders.length === 0) await sleep(5);
      await sleep(delayMs);
      there.killDomain();
      await moving;
      const [atHere, atThere] = await settledLists();
      assert.equal(atThere.length, 0, "it was killed there");
      // It may have moved before, with its disk.
      assert.deepEqual(await far.listOverlays(), atHere.length > 0 ? [] : ["mover-xvda"]);
      if (atHere.length > 0) continue;
      await far.removeOverlay("mover-xvda");
      await here.create("base:1,image,xvda");
    }
    assert.equal((await here.migrate(there)).status, 0);
    assert.deepEqual([await near.listOverlays(), await far.listOverlays()], [[], ["mover-xvda"]]);
    await there.xeno("destroy", "mover");
    const moved = await far.openOverlay("mover-xvda");
    const bytes = Buffer.alloc(content.length);
    await moved.read(0, [bytes]);
    await moved.close();
    assert.ok(bytes.equals(content));
  });

  test("goes its way when both agents are killed meanwhile", async () => {
    for (const delayMs of [500, 800]) {
      if ((await here.list()).length === 0) await here.create();
      const moving = here.migrate(there);
      while (there.folders.length === 0) await sleep(5);
      await sleep(delayMs);
      await Promise.all([here.killAgent(), there.killAgent()]);
      await moving;
      const [atHere, atThere] = await settledLists();
      assert.equal(atHere.length + atThere.length, 1, `after ${delayMs} ms`);
      await (atHere.length === 1 ? here : there).goesOn();
      if (atThere.length === 1) await there.xeno("destroy", "mover");
    }
  });
});

/**
 * What is on either server in the end. A domain that was told to run there is still listed here until it has ended, also by an agent that was
 * started meanwhile; one that ran twice would stay so.
 */
async function settledLists(): Promise<[DomainInfo[], DomainInfo[]]> {
  // Both agents are to be there before one is waited for: it may have to ask the other.
  for (const server of [here, there]) await server.list();
  for (let looks = 0; ; looks++) {
    const lists: [DomainInfo[], DomainInfo[]] = [await settledList(here), await settledList(there)];
    if (lists[0].length + lists[1].length <= 1 || looks === 100) return lists;
    await sleep(100);
  }
}
/** What is there once nothing arrives or leaves any more. */
async function settledList(server: Server): Promise<DomainInfo[]> {
  let list: DomainInfo[] = [];
  await waitUntil(
    async () => {
      list = await server.list();
      return list.length === server.folders.length;
    },
    () => `${server.folder} lists ${JSON.stringify(list)}, and has ${server.contents()}`,
  );
  return list;
}

/**
 * A server that hangs is told apart from a slow one by what it has: that is what the error says.
 * @throws Error with `what` if nothing becomes of it in so many looks
 */
async function waitUntil(isSo: () => Promise<boolean> | boolean, what: () => Promise<string> | string): Promise<void> {
  for (let looks = 0; !(await isSo()); looks++) {
    if (looks === 6000) throw new Error(await what());
    await sleep(20);
  }
}
