/** A domain's weight is the nice value of its process, all threads of it. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { getPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { ShutdownReason, shutdownGuest, spinGuest } from "@xenoserver/testkit";
import { configOf, specOfConfig } from "../cfg/index.ts";
import { launchDomain } from "../domain/index.ts";
import { nicenessOf } from "../domain/weight.ts";
import type { DomainProcess, ProcessPlace } from "../testing/domain-process.ts";
import { moveTo, reportOf, TestServer } from "../testing/moving-servers.ts";
import { StartedProcesses } from "../testing/started-processes.ts";
import { tinyConfig } from "../testing/tiny-domain.ts";

const ours = getPriority();
const CAP_SYS_NICE = 1n << 23n;
const mayRaise = (): boolean =>
  (BigInt(`0x${/^CapEff:\s*(\S+)$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]}`) & CAP_SYS_NICE) !== 0n;

test("a weight is as many nice values away as Linux weighs them", () => {
  const weights: [weight: number, nice: number][] = [
    [256, 0],
    [320, -1],
    [512, -3],
    [128, 3],
    [2560, -10],
    [25, 10],
    [65535, -25],
    [1, 25],
  ];
  for (const [weight, nice] of weights) assert.equal(nicenessOf(weight), nice, String(weight));
});

test("a configuration has a weight if it is not the default one, and is written with it again", () => {
  const weightOf = (more: object) => configOf({ kernel: "/k", ...more }, "t").config;
  assert.equal(weightOf({}).weight, undefined);
  assert.equal(weightOf({ cpu_weight: 256 }).weight, undefined);
  assert.equal(weightOf({ cpu_weight: "512" }).weight, 512);
  assert.equal(specOfConfig(weightOf({ cpu_weight: 512 }))["cpu_weight"], 512);
  assert.equal(specOfConfig(weightOf({}))["cpu_weight"], undefined);
  for (const wrong of [0, 65536, "heavy"])
    assert.throws(() => weightOf({ cpu_weight: wrong }), { message: /^t: cpu_weight is .*, expected 1 to 65535$/ });
});

describe("a domain's process", {
  skip: process.platform !== "linux" && "threads are weighed on Linux only",
  timeout: 60_000,
}, () => {
  let folder: string;
  const domains = new StartedProcesses();

  before(() => {
    folder = mkdtempSync(join(tmpdir(), "xeno-weights-"));
    writeFileSync(join(folder, "spin"), spinGuest());
  });
  after(() => rmSync(folder, { recursive: true }));
  // Those that spin would take the next ones' time.
  afterEach(() => domains.remove());

  const start = (settings = {}, changes = {}, place: ProcessPlace = {}): DomainProcess =>
    domains.start({ name: "heavy", kernel: join(folder, "spin"), memory: 32, ...settings }, changes, place);
  /** Every one that any thread has. */
  function nicesOf({ child }: DomainProcess): number[] {
    const threads = readdirSync(`/proc/${child.pid}/task`);
    assert.ok(threads.length > 4);
    return [...new Set(threads.map((tid) => getPriority(Number(tid))))];
  }
  const groupOf = ({ child }: DomainProcess): string | undefined =>
    / nice (-?\d+)$/.exec(readFileSync(`/proc/${child.pid}/autogroup`, "utf8").trim())?.[1];

  test("has it from the start, with all of its threads", async () => {
    const domain = start({ cpu_weight: 64, vcpus: 2 });
    const { weight } = await (await domain.client()).call("info", {});
    assert.deepEqual([weight, nicesOf(domain)], [64, [ours + 6]]);
  });

  test("is left alone by the default", async () => {
    const domain = start({ cpu_weight: 256 });
    const { weight } = await (await domain.client()).call("info", {});
    assert.deepEqual([weight, nicesOf(domain)], [256, [ours]]);
  });

  test("gets another one while it runs, and keeps it when its guest reboots", async () => {
    const kernel = join(folder, "once");
    writeFileSync(kernel, shutdownGuest(ShutdownReason.reboot));
    const domain = start({ kernel }, { paused: true });
    const client = await domain.client();
    await client.call("follow", {});
    const restarted = new Promise<void>((resolve) => {
      client.onEvent = ({ event }) => event === "restarted" && resolve();
    });
    assert.equal((await client.call("weight-set", { weight: 128 })).weight, 128);
    assert.deepEqual(nicesOf(domain), [ours + 3]);
    // What it boots next.
    copyFileSync(join(folder, "spin"), kernel);
    await client.call("unpause", {});
    await restarted;
    assert.deepEqual([(await client.call("info", {})).weight, nicesOf(domain)], [128, [ours + 3]]);
  });

  test("is as heavy as its user may have it, and as it was where that is refused", async () => {
    const domain = start({ cpu_weight: 128 });
    const client = await domain.client();
    const raised = client.call("weight-set", { weight: 512 });
    if (mayRaise()) {
      assert.deepEqual([(await raised).weight, nicesOf(domain)], [512, [ours - 3]]);
      await client.call("weight-set", { weight: 256 });
      assert.deepEqual(nicesOf(domain), [ours]);
    } else {
      await assert.rejects(raised, {
        message: `cpu_weight is 512, which takes a nice value of ${ours - 3}: this user may not go below ${ours + 3}, expected less weight`,
      });
      assert.deepEqual([(await client.call("info", {})).weight, nicesOf(domain)], [128, [ours + 3]]);
    }
  });

  test("takes the group that Linux makes of its session along, if that is its own", async (t) => {
    const domain = start({ cpu_weight: 128 }, {}, { detached: true });
    const client = await domain.client();
    if (groupOf(domain) === undefined) return t.skip("this kernel makes no groups of sessions");
    assert.equal(groupOf(domain), "3");
    await client.call("weight-set", { weight: 25 });
    assert.deepEqual([groupOf(domain), nicesOf(domain)], ["10", [ours + 10]]);
    const within = start({ cpu_weight: 128 });
    const before = readFileSync("/proc/self/autogroup", "utf8");
    await within.client();
    assert.equal(readFileSync("/proc/self/autogroup", "utf8"), before);
  });

  test("has it again where it moves to, and from where it was saved", async () => {
    const server = new TestServer(join(folder, "there"));
    const spec = { name: "heavy", uuid: randomUUID(), kernel: join(folder, "spin"), memory: 32, cpu_weight: 128 };
    const domain = start(spec);
    await (await domain.client()).call("weight-set", { weight: 64 });
    const move = await moveTo(server, domain, spec);
    try {
      reportOf(move);
      const client = await move.there.client();
      assert.deepEqual([(await client.call("info", {})).weight, nicesOf(move.there)], [64, [ours + 6]]);
      const restore = join(folder, "saved");
      await client.call("save", { path: restore, next: "destroy" });
      const restored = start(spec, { restore });
      const { weight } = await (await restored.client()).call("info", {});
      assert.deepEqual([weight, nicesOf(restored)], [64, [ours + 6]]);
    } finally {
      await server.remove();
    }
  });

  test("that is not the domain's alone is not weighed", async () => {
    const config = { ...tinyConfig(join(folder, "spin")), weight: 128 };
    await assert.rejects(launchDomain(config, { onConsole: () => {} }), {
      name: "ConfigError",
      message: "cpu_weight is 128, expected none for a domain in a process that is not its own",
    });
    assert.equal(getPriority(), ours);
  });

  test("is refused what is no weight", async () => {
    const domain = start();
    const client = await domain.client();
    for (const weight of [0, 65_536])
      await assert.rejects(client.call("weight-set", { weight }), {
        message: `weight of heavy: ${weight}, expected 1 to 65535`,
      });
    assert.deepEqual([(await client.call("info", {})).weight, nicesOf(domain)], [256, [ours]]);
  });
});
