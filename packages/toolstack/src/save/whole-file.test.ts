/** When a file of a saved domain is there. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { spinGuest } from "@xenoserver/testkit";
import { specOfConfig } from "../cfg/index.ts";
import { launchDomain } from "../domain/index.ts";
import { tinyConfig, withFile } from "../testing/tiny-domain.ts";

test("a save can be taken back until its file has its name, and is told when it has", () =>
  withFile(spinGuest(), async (kernel) => {
    const config = tinyConfig(kernel);
    const spec = specOfConfig(config);
    const domain = await launchDomain(config, { onConsole: () => {}, onLog: () => {} });
    await domain.pause();
    const path = join(dirname(kernel), "saved");
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
    await domain.destroy();
  }));
