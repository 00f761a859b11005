/** A domain's process and its control socket, with small guests. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ShutdownReason, shutdownGuest, spinGuest } from "@xenoserver/testkit";
import { DomainProcess } from "../testing/domain-process.ts";
import { addUsage, lastRecords, NO_USAGE, USAGE_FIELDS } from "../usage/meter.ts";
import type { ControlClient } from "./client.ts";
import { ARRIVAL_FILE } from "./process-folder.ts";
import type { ControlEvent, SaveOutcome } from "./protocol.ts";

let folder: string;
const GUESTS = {
  spin: spinGuest(),
  poweroff: shutdownGuest(ShutdownReason.poweroff),
  reboot: shutdownGuest(ShutdownReason.reboot),
};
const started: DomainProcess[] = [];

before(() => {
  folder = mkdtempSync(join(tmpdir(), "xeno-control-"));
  for (const [name, bytes] of Object.entries(GUESTS)) writeFileSync(join(folder, name), bytes);
});
after(async () => {
  await Promise.all(started.map((domain) => domain.remove()));
  rmSync(folder, { recursive: true });
});

function start(guest: keyof typeof GUESTS, settings = {}, changes = {}): DomainProcess {
  const domain = DomainProcess.start({ name: guest, kernel: join(folder, guest), memory: 32, ...settings }, changes);
  started.push(domain);
  return domain;
}

test("a process runs from its sources where no bundles are up to date", async () => {
  // As program.ts keeps it.
  const withoutBundles = "data:text/javascript,globalThis[Symbol.for(%22xenoserver.bundles%22)]=null";
  const domain = { name: "poweroff", kernel: join(folder, "poweroff"), memory: 32 };
  const process = DomainProcess.start(domain, {}, { env: { NODE_OPTIONS: `--import=${withoutBundles}` } });
  started.push(process);
  assert.equal(await process.gone, 0, process.log);
  assert.equal(process.end().reason, "poweroff");
});

const eventOf = <K extends ControlEvent["event"]>(client: ControlClient, kind: K) =>
  new Promise<Extract<ControlEvent, { event: K }>>((resolve) => {
    client.onEvent = (event) => event.event === kind && resolve(event as Extract<ControlEvent, { event: K }>);
  });

test("paused vcpus stand still, and run on when they may", async () => {
  const domain = start("spin");
  const client = await domain.client();
  const paused = await client.call("pause", {});
  assert.deepEqual([paused.state, paused.vcpus[0]!.state], ["paused", "runnable"]);
  const still = await client.call("info", {});
  assert.equal(still.vcpus[0]!.ranNs, paused.vcpus[0]!.ranNs);
  assert.ok(still.usage.wallNs > paused.usage.wallNs);
  const running = await client.call("unpause", {});
  assert.equal(running.state, "running");
  while ((await client.call("info", {})).vcpus[0]!.ranNs === still.vcpus[0]!.ranNs);
});

test("a domain that is created paused has not run; destroying it ends it", async () => {
  const domain = start("spin", {}, { paused: true });
  const client = await domain.client();
  assert.deepEqual((({ state, vcpus }) => [state, vcpus[0]!.ranNs])(await client.call("info", {})), ["paused", 0]);
  await client.call("destroy", {});
  assert.equal(await domain.gone, 0);
  assert.equal(domain.end().reason, "destroyed");
});

test("its end is told to who follows, then the socket is gone, and the folder says how it ended", async () => {
  const domain = start("poweroff", {}, { paused: true });
  const client = await domain.client();
  await client.call("follow", {});
  const ended = eventOf(client, "ended");
  await client.call("unpause", {});
  assert.equal((await ended).end.reason, "poweroff");
  await client.closed;
  assert.equal(await domain.gone, 0);
  assert.equal(existsSync(join(domain.folder, "control.sock")), false);
  assert.equal(domain.end().reason, "poweroff");
  await assert.rejects(client.call("info", {}), /the domain's process is gone/);
});

test("a reboot starts the guest anew in the same process, and nothing of its usage is lost", async () => {
  const domain = start("reboot", {}, { paused: true });
  const client = await domain.client();
  await client.call("follow", {});
  const restarted = eventOf(client, "restarted");
  await client.call("unpause", {});
  assert.equal((await restarted).reason, "reboot");
  const info = await client.call("info", {});
  assert.ok(info.restarts >= 1);
  await client.call("destroy", {});
  await domain.gone;
  const records = lastRecords(domain.folder);
  assert.deepEqual(
    records.map(({ seq }) => seq),
    records.map((_, n) => n),
  );
  // Each period begins where the one before it ended.
  records.slice(1).forEach((record, n) => assert.equal(record.fromNs, records[n]!.toNs));
  const sum = records.reduce(addUsage, NO_USAGE);
  assert.ok(USAGE_FIELDS.every((field) => Number.isSafeInteger(sum[field])));
  assert.ok(sum.vcpuUsedNs > 0 && sum.vcpuUsedNs >= info.usage.vcpuUsedNs);
});

test("usage outlives a killed process, and what was kept elsewhere is not told twice", async () => {
  const domain = start("spin");
  const client = await domain.client();
  await client.call("usage-sample", {});
  await client.call("pause", {});
  const before = lastRecords(domain.folder);
  const kept = before.slice(0, 2);
  await client.call("usage-forget", { upToSeq: kept.at(-1)!.seq });
  await client.call("unpause", {});
  const last = await client.call("info", {});
  domain.child.kill("SIGKILL");
  await domain.gone;
  const records = [...kept, ...lastRecords(domain.folder)];
  assert.deepEqual(
    records.map(({ seq }) => seq),
    records.map((_, n) => n),
  );
  assert.equal(records.at(-1)!.cause, "killed");
  const missedNs = last.usage.wallNs - records.reduce(addUsage, NO_USAGE).wallNs;
  assert.ok(missedNs < 2e9, `${missedNs} ns are in no record`);
});

test("what a move came to is in the folder it leaves, also if who asked for it does not hear", async () => {
  const [here, there] = [start("spin"), start("spin", {}, { arrives: true })];
  const socket = join(there.folder, ARRIVAL_FILE);
  while (!existsSync(socket)) await sleep(10);
  const client = await here.client();
  const asked = client.call("migrate", { socket, copyStorage: false, postCopy: false, token: "t" }).catch(() => {});
  // It goes when the domain has begun to come.
  while (existsSync(socket)) await sleep(1);
  client.close();
  await asked;
  assert.equal(await here.gone, 0, here.log);
  const { reason, moved } = here.end();
  assert.equal(reason, "destroyed");
  assert.ok(moved!.rounds > 0 && moved!.sentBytes > 0);
  assert.equal((await (await there.client()).call("info", {})).state, "running");
});

describe("what a save came to is in the folder of its domain", () => {
  test("also if who asked for it does not hear, and its file is whole", async () => {
    const domain = start("spin");
    const client = await domain.client();
    const path = join(folder, "saved");
    const asked = client.call("save", { path, next: "destroy", token: "t" }).catch(() => {});
    // Then it has begun.
    while (!existsSync(`${path}.part`) && !existsSync(path)) await sleep(1);
    client.close();
    await asked;
    assert.equal(await domain.gone, 0, domain.log);
    const { reason, saves } = domain.end();
    const [{ bytes, ...saved }] = saves as [Extract<SaveOutcome, { bytes: number }>];
    assert.deepEqual([reason, saves!.length, saved], ["destroyed", 1, { token: "t", path, next: "destroy" }]);
    assert.ok(bytes > 0);
    const restored = start("spin", {}, { restore: path });
    assert.equal((await (await restored.client()).call("info", {})).state, "running");
  });

  test("and is told over another line, while the domain runs on", async () => {
    const domain = start("spin");
    const [client, other] = [await domain.client(), await domain.client()];
    const path = join(folder, "kept");
    const { bytes } = await client.call("save", { path, next: "run", token: "t" });
    client.close();
    assert.deepEqual(await other.call("save-outcome", { token: "t" }), { token: "t", path, next: "run", bytes });
    await assert.rejects(other.call("save-outcome", { token: "u" }), /token is "u", which no save has/);
    await assert.rejects(other.call("save", { path: "/no/folder", next: "destroy", token: "v" }), /cannot be written/);
    const failed = await other.call("save-outcome", { token: "v" });
    assert.match((failed as { error: string }).error, /^\/no\/folder: cannot be written: ENOENT/);
    await other.call("destroy", {});
    await domain.gone;
    assert.deepEqual(domain.end().saves, [{ token: "t", path, next: "run", bytes }, failed]);
  });

  test("where the domain is destroyed before: there is no file, and nobody hears of one", async () => {
    const domain = start("spin");
    const [client, other] = [await domain.client(), await domain.client()];
    const path = join(folder, "never");
    // What is written stays on its way until somebody reads it.
    execFileSync("mkfifo", [`${path}.part`]);
    const asked = client.call("save", { path, next: "destroy", token: "t" }).then(
      () => "saved",
      (error: Error) => error.message,
    );
    while ((await other.call("info", {})).state !== "paused");
    const destroyed = other.call("destroy", {});
    while (!existsSync(join(domain.folder, "end.json"))) await sleep(1);
    const error = `${path}: cannot be written: the domain ended meanwhile`;
    assert.deepEqual(domain.end().saves, [{ token: "t", path, next: "destroy", error }]);
    createReadStream(`${path}.part`).resume();
    await destroyed;
    assert.notEqual(await asked, "saved");
    assert.equal(await domain.gone, 0, domain.log);
    assert.deepEqual([existsSync(path), existsSync(`${path}.part`)], [false, false]);
  });
});

test("the socket is its user's only, and says what is wrong with a request", async () => {
  const domain = start("spin");
  const client = await domain.client();
  const path = join(domain.folder, "control.sock");
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const refused: [op: string, args: unknown, message: RegExp][] = [
    ["explode", {}, /op is "explode", expected one of info, /],
    ["shutdown", { request: "please" }, /request is "please", expected one of poweroff, reboot/],
    ["sysrq", { key: "reboot" }, /key is "reboot", expected one letter or digit/],
    ["memory-set", { targetBytes: "much" }, /targetBytes is "much", expected a whole number/],
    ["memory-set", { targetBytes: 2 ** 40 }, /memory of spin: 1048576 MiB, expected 4 to 32 MiB/],
    ["vcpu-set", { count: 2 }, /vcpus of spin: 2, expected 1 to 1/],
    ["rename", { name: "a b" }, /name is "a b", expected up to 64 letters/],
    ["block-attach", { disk: "x" }, /disk "x" has no vdev, expected/],
    ["block-attach", { disk: "/nowhere,raw,xvda" }, /disk xvda: .*\/nowhere/],
    ["block-detach", { vdev: "xvdz" }, /vbd \d+ is not there/],
    ["network-attach", { vif: "colour=red" }, /vif "colour=red" has colour=/],
    ["network-detach", { devid: 3 }, /vif 3 is not there/],
    ["xenstore-rm", { path: "/nothing" }, /xenstore \/nothing: no such node/],
    ["xenstore-write", { path: "//", value: "" }, /xenstore \/\/: EINVAL/],
  ];
  for (const [op, args, message] of refused) {
    await assert.rejects(client.call(op as "info", args as Record<string, never>), { message });
  }
  const answers = await new Promise<string>((resolve) => {
    const socket = connect(path, () => socket.write('{"op":1}\nnonsense\n'));
    let text = "";
    socket.on("data", (bytes) => {
      text += bytes.toString();
      if (text.split("\n").length === 3) {
        socket.destroy();
        resolve(text);
      }
    });
  });
  assert.match(answers, /has no id or op, expected.*is no JSON, expected a request/s);
  // None of that harmed the domain.
  assert.equal((await client.call("info", {})).state, "running");
});

test("what cannot be started leaves a sentence", async () => {
  const domain = start("spin", { kernel: "/nowhere" });
  await assert.rejects(domain.client(), /^Error: kernel \/nowhere: no such file$/);
  assert.equal(await domain.gone, 2);
});
