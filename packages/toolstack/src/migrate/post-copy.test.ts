/** A domain that moves before all of its memory has, over links that break when it runs there already. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { duplexPair } from "node:stream";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { stampGuest } from "@xenoserver/testkit";
import { specOfConfig } from "../cfg/index.ts";
import { RecordType } from "../save/records.ts";
import { type Fault, relay } from "../testing/cut-link.ts";
import { moveStamper, type Outcome, setOnFire } from "../testing/moving-stamper.ts";
import { Stamper } from "../testing/stamper.ts";
import { openResources, tinyConfig } from "../testing/tiny-domain.ts";
import { ArrivingDomain, MigrationInDoubt, MigrationTorn } from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-postcopy-"));
const kernel = join(folder, "kernel");
writeFileSync(kernel, stampGuest());
after(() => rmSync(folder, { recursive: true }));

const config = tinyConfig(kernel, { vcpus: 1 });
const spec = specOfConfig(config);

/** Sockets of the system's, with a link between them that is cut at a record. */
async function linkOf(fault?: Fault, restMs?: () => number): Promise<{ near: Socket; far: Socket; close: () => void }> {
  const [nearPath, farPath] = [join(folder, "near.sock"), join(folder, "far.sock")];
  const arrives = Promise.withResolvers<Socket>();
  const servers: Server[] = [
    createServer((sender) => relay(sender, connect(farPath), fault, restMs)),
    createServer((far) => arrives.resolve(far)),
  ];
  await Promise.all(
    servers.map((server, k) => new Promise<void>((done) => server.listen([nearPath, farPath][k], done))),
  );
  const near = connect(nearPath);
  const far = await arrives.promise;
  for (const end of [near, far]) end.on("error", () => {});
  return { near, far, close: () => servers.forEach((server) => server.close()) };
}

async function move(
  from: Stamper,
  fault?: Fault,
  sabotage?: (arriving: ArrivingDomain) => void,
  restMs?: () => number,
): Promise<Outcome> {
  const link = await linkOf(fault, restMs);
  try {
    return await moveStamper(from, link, config, { postCopy: true }, sabotage);
  } finally {
    link.close();
  }
}

describe("a domain that moves before all of its memory has", { timeout: 300_000 }, () => {
  test("goes on there with all that it wrote, again and again", async () => {
    let here = await Stamper.start(config);
    for (let k = 0; k < 4; k++) {
      await here.goesOn();
      const { sent, arrived } = await move(here);
      assert.ok(arrived instanceof Stamper, String(arrived));
      assert.ok(!(sent instanceof Error), String(sent));
      assert.equal(sent.rounds, 1, "memory is sent once");
      assert.ok(sent.laterFrames! > 0, "the guest writes all the time");
      assert.ok(sent.fetchedFrames! <= sent.laterFrames!);
      assert.equal(here.domain.isPaused, true, "it stands still where it was");
      await here.domain.destroy();
      here = arrived;
    }
    await here.goesOn();
    await here.domain.destroy();
  });

  test("has what it waits for sent first, over a slow line", async () => {
    const here = await Stamper.start(config);
    await here.goesOn();
    let isRunning = false;
    const watch: Fault = {
      by: "receiver",
      cutAt: (type) => {
        if (type === RecordType.running) isRunning = true;
        return false;
      },
    };
    const { sent, arrived } = await move(here, watch, undefined, () => (isRunning ? 150 : 0));
    assert.ok(arrived instanceof Stamper, String(arrived));
    assert.ok(!(sent instanceof Error), String(sent));
    assert.ok(sent.fetchedFrames! > 0, "a guest that goes through its memory meets a page that is not there");
    await arrived.goesOn();
    await Promise.all([arrived.domain.destroy(), here.domain.destroy()]);
  });

  for (const [when, fault] of Object.entries<Fault>({
    "before it stands still": { by: "sender", cutAt: (_, count) => count === 9 },
    "before it is told what comes later": { by: "sender", cutAt: (type) => type === RecordType.later },
    "before the other side is ready": { by: "receiver", cutAt: (type) => type === RecordType.ready },
  }))
    test(`runs on here if the link is cut ${when}`, async () => {
      const here = await Stamper.start(config);
      await here.goesOn();
      const { sent, arrived } = await move(here, fault);
      assert.ok(arrived instanceof Error && arrived.name === "SaveError", String(arrived));
      assert.ok(sent instanceof Error && !(sent instanceof MigrationInDoubt), String(sent));
      assert.ok(!(sent instanceof MigrationTorn), String(sent));
      await here.goesOn();
      await here.domain.destroy();
    });

  test("stands still here if the link is cut at the commit, and goes on where it is told to", async () => {
    const here = await Stamper.start(config);
    await here.goesOn();
    const { sent, arrived } = await move(here, { by: "sender", cutAt: (type) => type === RecordType.commit });
    assert.ok(arrived instanceof Error, String(arrived));
    assert.ok(sent instanceof MigrationInDoubt, String(sent));
    await here.domain.unpause();
    await here.goesOn();
    await here.domain.destroy();
  });

  test("ends there when it misses a page after the link was cut, and stands still here", async () => {
    const here = await Stamper.start(config);
    await here.goesOn();
    const { sent, arrived } = await move(here, { by: "receiver", cutAt: (type) => type === RecordType.arrived });
    // All came but the word of it: there it lacks nothing, and here nobody can know.
    assert.ok(arrived instanceof Stamper, String(arrived));
    assert.ok(sent instanceof MigrationTorn, String(sent));
    await arrived.goesOn();
    await Promise.all([arrived.domain.destroy(), here.domain.destroy()]);

    const second = await Stamper.start(config);
    await second.goesOn();
    let isRunning = false;
    const whenItRuns: Fault = {
      by: "both",
      cutAt: (type) => {
        if (type === RecordType.running) isRunning = true;
        return isRunning && type === RecordType.frames;
      },
    };
    const torn = await move(second, whenItRuns);
    assert.ok(torn.arrived instanceof Stamper, String(torn.arrived));
    assert.ok(torn.sent instanceof MigrationTorn, String(torn.sent));
    assert.match(torn.sent.message, /it runs there, but \d+ frames of it are here, where it stands still as it left/);
    const { reason, detail } = await torn.arrived.domain.exited;
    assert.equal(reason, "crash");
    assert.match(detail!, /frame \d+ did not come: the line to the server that the domain came from was cut/);
    await second.domain.unpause();
    await second.goesOn();
    await second.domain.destroy();
  });

  test("runs on here if it cannot be started there, and hears why", async () => {
    const here = await Stamper.start(config);
    await here.goesOn();
    const { sent, arrived } = await move(here, undefined, setOnFire);
    assert.ok(arrived instanceof Error);
    assert.ok(sent instanceof Error && !(sent instanceof MigrationInDoubt), String(sent));
    assert.match(sent.message, /could not be moved: its disk is on fire/);
    await here.goesOn();
    await here.domain.destroy();
  });

  test("runs on here if the other side cannot give the line to another thread", async () => {
    const here = await Stamper.start(config);
    await here.goesOn();
    const [near, far] = duplexPair();
    for (const end of [near, far]) end.on("error", () => {});
    const sent = here.domain.migrate(near, spec, { postCopy: true });
    const arrived = ArrivingDomain.from(far).then(async (arriving) => {
      await arriving.settle().catch((error: Error) => arriving.refuse(error.message));
    });
    await Promise.all([assert.rejects(sent, /post-copy: this server cannot take a domain/), arrived]);
    await here.goesOn();
    await here.domain.destroy();
  });

  test("leaves nothing behind", async () => {
    await sleep(100);
    const before = openResources();
    const here = await Stamper.start(config);
    const { arrived } = await move(here);
    assert.ok(arrived instanceof Stamper, String(arrived));
    await arrived.goesOn();
    await here.domain.destroy();
    await arrived.domain.destroy();
    await sleep(200);
    assert.deepEqual(openResources(), before);
  });
});
