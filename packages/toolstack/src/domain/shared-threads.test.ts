/** Domains of one process that share threads: each goes on by itself, whatever becomes of the others. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { stampGuest } from "@xenoserver/testkit";
import { type DomainConfig, specOfConfig } from "../cfg/index.ts";
import { openSaved } from "../snapshot/index.ts";
import { SharedSnapshot } from "../snapshot/snapshot-file.ts";
import { Stamper } from "../testing/stamper.ts";
import { tinyConfig } from "../testing/tiny-domain.ts";
import type { LaunchOptions } from "./running-domain.ts";
import { SharedThreads } from "./shared-threads.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-shared-"));
const [kernel, path] = [join(folder, "kernel"), join(folder, "snapshot")];
const config = tinyConfig(kernel);

describe("copies that share threads", { timeout: 200_000 }, () => {
  let threads: NonNullable<LaunchOptions["threads"]>;
  let snapshot: SharedSnapshot;
  let copies: Stamper[];
  const copy = async (changes: Partial<DomainConfig> = {}): Promise<Stamper> => {
    const from = await snapshot.file();
    return Stamper.start({ ...from.config, ...changes }, from, threads);
  };

  before(async () => {
    writeFileSync(kernel, stampGuest());
    const original = await Stamper.start(config);
    await original.goesOn();
    await original.domain.snapshot(path, specOfConfig(config));
    await original.domain.destroy();
    threads = { shared: new SharedThreads(), isAlone: false };
    snapshot = await SharedSnapshot.open(path);
    rmSync(path);
    copies = await Promise.all(Array.from({ length: 6 }, (_, n) => copy({ name: `copy${n}` })));
  });
  after(async () => {
    await Promise.all(copies.map(({ domain }) => domain.destroy()));
    snapshot.close();
    rmSync(folder, { recursive: true });
  });

  test("go on, all at once, and find each page as the original left it", async () => {
    await Promise.all(copies.map((one) => one.goesOn()));
  });

  test("are paused one by one", async () => {
    const [first, second] = copies as [Stamper, Stamper];
    await first.domain.pause();
    const before = first.rounds;
    await second.goesOn();
    assert.equal(first.rounds, before);
    await first.domain.unpause();
    await first.goesOn();
  });

  test("are told apart by what they used", async () => {
    const ran = (one: Stamper): number => one.domain.counters().vcpus[0]!.ranNs;
    const [first, second] = copies as [Stamper, Stamper];
    await first.domain.pause();
    const [before, other] = [ran(first), ran(second)];
    await second.goesOn();
    assert.equal(ran(first), before);
    assert.ok(ran(second) > other);
    await first.domain.unpause();
  });

  test("are saved, and copied again, while the others run", async () => {
    const again = join(folder, "again");
    await copies[0]!.domain.snapshot(again, specOfConfig(config));
    const from = await openSaved(again);
    const grandchild = await Stamper.start(from.config, from, threads);
    await grandchild.goesOn();
    await copies[0]!.goesOn();
    await grandchild.domain.destroy();
  });

  test("cannot be pinned, and run on", async () => {
    await assert.rejects(
      copies[0]!.domain.pin(["0"]),
      /vcpu 0 cannot be pinned: its thread has other copies' vcpus too/,
    );
    await copies[0]!.goesOn();
  });

  test("end alone: destroyed, or for a reason of their own", async () => {
    const gone = copies.pop()!;
    await gone.domain.destroy();
    assert.equal((await gone.domain.exited).reason, "destroyed");
    await Promise.all(copies.map((one) => one.goesOn()));
  });

  test("have threads of their own where they are alone", async () => {
    const alone = { shared: new SharedThreads(), isAlone: true };
    const from = await snapshot.file();
    const one = await Stamper.start(from.config, from, alone);
    await one.goesOn();
    await one.domain.destroy();
  });

  test("end when they are told to, and the one that compiles too", async () => {
    const brief = new SharedThreads();
    let ended = 0;
    brief.regions.once("exit", () => ended++);
    await brief.end();
    assert.equal(ended, 1);
    await brief.end();
  });
});
