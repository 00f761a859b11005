/** When a file of a saved domain is there. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createReadStream, existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { spinGuest } from "@xenoserver/testkit";
import { type DomainSpec, specOfConfig } from "../cfg/index.ts";
import { launchDomain, type RunningDomain } from "../domain/index.ts";
import { tinyConfig, withFile } from "../testing/tiny-domain.ts";

/** Gives `use` a domain that stands still, and a path for its file. */
const withPaused = (use: (domain: RunningDomain, spec: DomainSpec, path: string) => Promise<void>) => () =>
  withFile(spinGuest(), async (kernel) => {
    const config = tinyConfig(kernel);
    const domain = await launchDomain(config, { onConsole: () => {}, onLog: () => {} });
    try {
      await domain.pause();
      await use(domain, specOfConfig(config), join(dirname(kernel), "saved"));
    } finally {
      await domain.destroy();
    }
  });

test(
  "a save can be taken back until its file has its name, and is told when it has",
  withPaused(async (domain, spec, path) => {
    writeFileSync(path, "older");
    const untilWhole = (share: number): void => {
      if (share === 1) throw new Error("it is not wanted");
    };
    const never = (): never => assert.fail("it is not whole");
    await assert.rejects(domain.save(path, spec, untilWhole, never), /saved: cannot be written: it is not wanted$/);
    assert.equal(readFileSync(path, "utf8"), "older");
    assert.equal(existsSync(`${path}.part`), false);

    const said: unknown[] = [];
    const bytes = await domain.save(
      path,
      spec,
      (share) => share === 1 && said.push(readFileSync(path, "utf8"), existsSync(`${path}.part`)),
      (whole) => said.push(whole, readFileSync(path, "utf8") !== "older", existsSync(`${path}.part`)),
    );
    assert.deepEqual(said, ["older", true, bytes, true, false]);
  }),
);

test(
  "a file that cannot be flushed does not get its name",
  withPaused(async (domain, spec, path) => {
    // A pipe takes all that is written, and fsync(2) refuses it.
    execFileSync("mkfifo", [`${path}.part`]);
    createReadStream(`${path}.part`).resume();
    await assert.rejects(domain.save(path, spec), /saved: cannot be written: EINVAL: invalid argument, fsync$/);
    assert.deepEqual([existsSync(path), existsSync(`${path}.part`)], [false, false]);
  }),
);
