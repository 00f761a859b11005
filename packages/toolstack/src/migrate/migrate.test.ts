/** A domain that checks its own memory moves while it runs, over links that break and to servers that refuse it. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Duplex, duplexPair } from "node:stream";
import { after, describe, test } from "node:test";
import { openImage } from "@xenoserver/storage";
import { stampGuest } from "@xenoserver/testkit";
import { parseDisk, specOfConfig } from "../cfg/index.ts";
import { RecordType } from "../save/records.ts";
import { type Fault, relay } from "../testing/cut-link.ts";
import { moveStamper, type Outcome, setOnFire } from "../testing/moving-stamper.ts";
import { Stamper } from "../testing/stamper.ts";
import { openResources, tinyConfig } from "../testing/tiny-domain.ts";
import { ArrivingDomain, MigrationInDoubt } from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-migrate-"));
const [kernel, image] = [join(folder, "kernel"), join(folder, "disk.img")];
writeFileSync(kernel, stampGuest());
writeFileSync(image, "");
truncateSync(image, 1 << 20);
after(() => rmSync(folder, { recursive: true }));

const config = tinyConfig(kernel, { vcpus: 1, disks: [parseDisk(`${image},raw,xvda`)] });
const spec = specOfConfig(config);
/** A link between two servers, cut at a record. */
function linkOf(fault?: Fault): { near: Duplex; far: Duplex } {
  const [near, relayNear] = duplexPair();
  const [relayFar, far] = duplexPair();
  for (const end of [near, far]) end.on("error", () => {});
  relay(relayNear, relayFar, fault);
  const cut = (): void => {
    for (const end of [near, far]) end.destroy();
  };
  for (const end of [relayNear, relayFar]) end.on("close", cut);
  return { near, far };
}

/** @param sabotage  called at the far end before everything has come */
const move = (from: Stamper, fault?: Fault, sabotage?: (arriving: ArrivingDomain) => void): Promise<Outcome> =>
  moveStamper(from, linkOf(fault), config, {}, sabotage);

const diskIsTaken = async (): Promise<boolean> => {
  const opened = await openImage(image, { format: "raw", readOnly: false }).catch((error: Error) => error);
  if (opened instanceof Error) {
    assert.match(opened.message, /in use by another domain/);
    return true;
  }
  await opened.close();
  return false;
};

describe("a domain that moves while it runs", { timeout: 300_000 }, () => {
  test("goes on there with all its memory, again and again", async () => {
    let here = await Stamper.start(config);
    for (let k = 0; k < 4; k++) {
      await here.goesOn();
      const { sent, arrived } = await move(here);
      assert.ok(arrived instanceof Stamper, String(arrived));
      assert.ok(!(sent instanceof Error), String(sent));
      assert.ok(sent.sentBytes >= 8 << 20 && sent.rounds >= 1 && sent.downtimeMs > 0);
      assert.equal(here.domain.isPaused, true, "it stands still where it was");
      await here.domain.destroy();
      assert.equal(await diskIsTaken(), true, "the end of the old one lets the disk be");
      here = arrived;
    }
    await here.goesOn();
    await here.domain.destroy();
    assert.equal(await diskIsTaken(), false);
  });

  const inDoubt = (type: number): boolean => type === RecordType.commit;
  const cuts: Record<string, Fault> = {
    "before it has begun": { by: "sender", cutAt: (_, count) => count === 0 },
    "in its first round": { by: "sender", cutAt: (_, count) => count === 9 },
    "when it stands still": { by: "sender", cutAt: (type) => type === RecordType.clock },
    "between its parts": { by: "sender", cutAt: (type) => type === RecordType.backends },
    "before its last record": { by: "sender", cutAt: (type) => type === RecordType.end },
    "before the other side is ready": { by: "receiver", cutAt: (type) => type === RecordType.ready },
  };
  for (const [when, fault] of Object.entries(cuts))
    test(`runs on if the link is cut ${when}`, async () => {
      const here = await Stamper.start(config);
      await here.goesOn();
      const { sent, arrived } = await move(here, fault);
      assert.ok(arrived instanceof Error && arrived.name === "SaveError", String(arrived));
      assert.ok(sent instanceof Error && !(sent instanceof MigrationInDoubt), String(sent));
      assert.match(sent.message, /^the domain could not be moved: /);
      await here.goesOn();
      assert.equal(await diskIsTaken(), true);
      const second = await move(here);
      assert.ok(second.arrived instanceof Stamper, "it can be moved the next time");
      await here.domain.destroy();
      await second.arrived.goesOn();
      await second.arrived.domain.destroy();
    });

  test("stands still if the link is cut at the commit, and goes on where it is told to", async () => {
    const here = await Stamper.start(config);
    await here.goesOn();
    const { sent, arrived } = await move(here, { by: "sender", cutAt: inDoubt });
    assert.ok(arrived instanceof Error && arrived.name === "SaveError", String(arrived));
    assert.ok(sent instanceof MigrationInDoubt, String(sent));
    assert.deepEqual([here.domain.isPaused, await diskIsTaken()], [true, false]);
    await here.domain.unpause();
    await here.goesOn();
    assert.equal(await diskIsTaken(), true);
    await here.domain.destroy();
  });

  test("runs there, and there only, if the link is cut before its last word", async () => {
    const here = await Stamper.start(config);
    await here.goesOn();
    const { sent, arrived } = await move(here, { by: "receiver", cutAt: (type) => type === RecordType.running });
    assert.ok(arrived instanceof Stamper, String(arrived));
    assert.ok(sent instanceof MigrationInDoubt, String(sent));
    await arrived.goesOn();
    await assert.rejects(here.domain.unpause(), /in use by another domain/);
    assert.equal(here.domain.isPaused, true);
    await here.domain.destroy();
    await arrived.goesOn();
    await arrived.domain.destroy();
  });

  test("runs on if its disk is gone when the other side is to take it", async () => {
    const here = await Stamper.start(config);
    await here.goesOn();
    const { sent, arrived } = await move(here, undefined, setOnFire);
    assert.ok(arrived instanceof Error);
    assert.ok(sent instanceof Error && !(sent instanceof MigrationInDoubt), String(sent));
    assert.match(sent.message, /could not be moved: its disk is on fire/);
    await here.goesOn();
    assert.equal(await diskIsTaken(), true);
    await here.domain.destroy();
  });

  test("that ends meanwhile is not moved", async () => {
    const here = await Stamper.start(config);
    await here.goesOn();
    const { near, far } = linkOf();
    const sent = here.domain.migrate(near, spec, {}, () => void here.domain.destroy());
    const arrived = ArrivingDomain.from(far).then((arriving) => Stamper.start(config, arriving));
    await Promise.all([assert.rejects(sent, /it has ended meanwhile/), assert.rejects(arrived, { name: "SaveError" })]);
    await here.domain.exited;
  });

  test("leaves nothing behind", async () => {
    // What the tests before closed is gone by then.
    await new Promise((resolve) => setTimeout(resolve, 100));
    const before = openResources();
    const here = await Stamper.start(config);
    const { arrived } = await move(here);
    assert.ok(arrived instanceof Stamper);
    await here.domain.destroy();
    await arrived.domain.destroy();
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.deepEqual(openResources(), before);
  });
});
