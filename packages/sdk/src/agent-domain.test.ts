/** What domains under an agent have beside those of a program's own. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { agentHome, startAgent } from "@xenoserver/agent/index.ts";
import { AGENT_GUEST } from "@xenoserver/toolstack/testing/agent-guest.ts";
import { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";
import { WebSocket } from "ws";
import { type AgentDomain, type Progress, Server } from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-sdk-agent-"));
const homes = ["here", "there"].map((name) => agentHome({ XENO_AGENT_HOME: join(folder, name) }));
const guest = await DebianGuest.open();
const agents = await Promise.all(homes.map(startAgent));
const [here, there] = (await Promise.all(homes.map((home) => Server.local({ XENO_AGENT_HOME: home.folder })))) as [
  Server,
  Server,
];
let machine: AgentDomain;
after(async () => {
  for (const server of [here, there]) for (const domain of await server.list()) await domain.destroy();
  for (const agent of agents) await agent.close();
  rmSync(folder, { recursive: true });
});

/** All that is printed, until a text is. */
async function until(output: AsyncIterable<Uint8Array>, text: string): Promise<string> {
  let printed = "";
  for await (const bytes of output) {
    printed += Buffer.from(bytes).toString();
    if (printed.includes(text)) break;
  }
  return printed;
}

function webSocket(path: string, protocol: string): WebSocket {
  return new WebSocket(`ws+unix://${homes[0]!.socket}:/v1/domains/one/${path}`, protocol);
}

describe("a domain under an agent", { timeout: 400_000, skip: typeof guest === "string" ? guest : false }, () => {
  test("is created once for each key", async () => {
    const { kernel, ramdisk } = await (guest as DebianGuest).config(AGENT_GUEST);
    const spec = { name: "one", kernel, ramdisk: ramdisk!, memory: 128, cmdline: "console=hvc0 quiet" };
    const told: Progress[] = [];
    const options = { idempotencyKey: "the first", overcommit: true };
    machine = await here.create(spec, { ...options, onProgress: (progress) => told.push(progress) });
    assert.equal((await here.create(spec, options)).uuid, machine.uuid);
    assert.deepEqual(told, [{ kind: "create", domid: 1 }]);
    await assert.rejects(here.create(spec), /^AgentError: domain one is there already$/);
    await assert.rejects(here.create({ ...spec, memory: 256 }, options), /which another request has/);
    await assert.rejects(here.create({ ...spec, name: "two" }, { signal: AbortSignal.abort() }), {
      name: "AbortError",
    });
    assert.deepEqual(
      (await here.list()).map(({ name }) => name),
      ["one"],
    );
  });

  test("has a console that is a stream", async () => {
    const stream = await machine.consoleStream();
    const reading = machine.exec("echo ready > /dev/hvc0; read line < /dev/hvc0; echo got $line");
    await until(stream.iterator({ destroyOnReturn: false }), "ready");
    stream.write("typed\n");
    assert.equal(String((await reading).stdout), "got typed\n");
    stream.destroy();
    assert.match(await until(machine.console(), "ready"), /init reached/);
  });

  test("tells how far a snapshot and copies are, and leaves nothing of what was taken back", async () => {
    const path = join(folder, "snapshot");
    const told: Progress[] = [];
    const onProgress = (progress: Progress): unknown => told.push(progress);
    const { bytes, rounds } = await machine.snapshot(path, { onProgress });
    const last = told.at(-1)!;
    assert.ok(last.kind === "snapshot" && last.round === rounds && last.writtenBytes <= bytes && bytes > 1 << 20);
    told.length = 0;
    const copies = await machine.fork({ count: 2, name: "copy", onProgress });
    assert.ok(told.some((progress) => progress.kind === "fork" && progress.snapshot !== undefined));
    assert.deepEqual(told.at(-1), { kind: "fork", madeCount: 2, count: 2 });
    for (const copy of copies) await copy.destroy();
    const gone = { signal: AbortSignal.abort() };
    await assert.rejects(machine.snapshot(join(folder, "none"), gone), { name: "AbortError" });
    await assert.rejects(machine.fork(gone), { name: "AbortError" });
    assert.equal(existsSync(join(folder, "none")), false);
    assert.equal((await here.list()).length, 1);
  });

  test("can be reached by WebSockets", async () => {
    const console = webSocket("console", "console.xenoserver.v1");
    await once(console, "open");
    const reading = machine.exec("echo listens > /dev/hvc0; read line < /dev/hvc0; echo got $line");
    let printed = "";
    await new Promise<void>((resolve) =>
      console.on("message", (bytes: Buffer) => (printed += bytes.toString()).includes("listens") && resolve()),
    );
    console.send("as text\n");
    assert.equal(String((await reading).stdout), "got as text\n");
    console.close();

    const frame = (type: number, text: string): Buffer => Buffer.concat([Buffer.of(type), Buffer.from(text)]);
    const exec = webSocket("exec", "exec.xenoserver.v1");
    await once(exec, "open");
    const frames: string[] = [];
    exec.on("message", (bytes: Buffer) => frames.push(`${bytes[0]} ${bytes.subarray(1)}`));
    exec.send(frame(0, JSON.stringify({ args: ["sh", "-c", "cat; echo err >&2; exit 3"] })));
    exec.send(frame(1, "input"));
    exec.send(frame(1, ""));
    await once(exec, "close");
    assert.deepEqual(frames.toSorted(), ["1 input", "2 err\n", '3 {"status":3}']);
    const strange = webSocket("exec", "exec.xenoserver.v1");
    await once(strange, "open");
    strange.send("text");
    assert.equal((await once(strange, "close"))[0], 1003);
  });

  test("moves to another server, and tells how far it has come", async () => {
    await machine.exec("echo kept > /tmp/file");
    const told: Progress[] = [];
    await assert.rejects(machine.migrate(there, { signal: AbortSignal.abort() }), { name: "AbortError" });
    const { domain, report } = await machine.migrate(there, {
      overcommit: true,
      onProgress: (progress) => told.push(progress),
    });
    const last = told.at(-1)!;
    assert.ok(last.kind === "migrate" && last.phase === "handover" && last.round === report.rounds);
    assert.equal(String((await domain.exec("cat /tmp/file")).stdout), "kept\n");
    assert.deepEqual(await here.list(), []);
  });
});
