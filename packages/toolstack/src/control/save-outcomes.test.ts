import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { spinGuest } from "@xenoserver/testkit";
import { tinyConfig } from "../testing/tiny-domain.ts";
import { DomainHost } from "./domain-host.ts";
import { ControlError, type SaveOutcome } from "./protocol.ts";
import { SaveOutcomes, type Saving } from "./save-outcomes.ts";

const ENDED = "cannot be written: the domain ended meanwhile";

describe("what comes of saves", () => {
  test("is told by their token when they are over", async () => {
    const saves = new SaveOutcomes();
    const begun = Promise.withResolvers<Saving>();
    const rest = Promise.withResolvers<void>();
    const done = saves.keep("a", "/f", "run", async (saving) => {
      begun.resolve(saving);
      await rest.promise;
      return "done";
    });
    const saving = await begun.promise;
    let told: SaveOutcome | undefined;
    void saves.of("a").then((outcome) => {
      told = outcome;
    });
    await new Promise(setImmediate);
    assert.equal(told, undefined);
    saving.mustGoOn();
    saving.succeed(5);
    await new Promise(setImmediate);
    assert.deepEqual(told, { token: "a", path: "/f", next: "run", bytes: 5 });
    rest.resolve();
    assert.equal(await done, "done");
    await assert.rejects(
      saves.of("b"),
      (error) => error instanceof ControlError && error.code === "not-found" && /token is "b"/.test(error.message),
    );
  });

  test("is what was said first: a file that is whole stays so, whatever fails then", async () => {
    const saves = new SaveOutcomes();
    const fails = (isWhole: boolean) => async (saving: Saving) => {
      if (isWhole) saving.succeed(5);
      throw new Error("it fails");
    };
    await assert.rejects(saves.keep("whole", "/f", "run", fails(true)), /it fails/);
    await assert.rejects(saves.keep("none", "/f", "run", fails(false)), /it fails/);
    assert.deepEqual(saves.end(), [
      { token: "whole", path: "/f", next: "run", bytes: 5 },
      { token: "none", path: "/f", next: "run", error: "it fails" },
    ]);
  });

  test("is no file when the domain ends first, and none may come then", async () => {
    const saves = new SaveOutcomes();
    const end = Promise.withResolvers<void>();
    const late = saves.keep("a", "/f", "run", async (saving) => {
      await end.promise;
      saving.mustGoOn();
    });
    const told = [{ token: "a", path: "/f", next: "run", error: `/f: ${ENDED}` }];
    assert.deepEqual(saves.end(), told);
    end.resolve();
    await assert.rejects(late, /^Error: the domain ended meanwhile$/);
    assert.deepEqual([await saves.of("a")], told);
  });

  test("is kept of the last that are over, of all that are not, and of none without a token", async () => {
    const saves = new SaveOutcomes();
    const one = saves.keep("first", "/f", "run", () => new Promise<void>(() => {}));
    await saves.keep(undefined, "/f", "run", async (saving) => saving.succeed(0));
    for (let n = 0; n < 20; n++) await saves.keep(String(n), "/f", "run", async (saving) => saving.succeed(n));
    const tokens = saves.end().map(({ token }) => token);
    assert.deepEqual(tokens, ["first", ...Array.from({ length: 16 }, (_, n) => String(n + 4))]);
    void one;
  });
});

test("a domain whose end is told while it is saved does not get a file any more", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "xeno-saves-"));
  const [kernel, path] = [join(folder, "kernel"), join(folder, "saved")];
  writeFileSync(kernel, spinGuest());
  const host = await DomainHost.start(tinyConfig(kernel), {
    ...{ runId: "run", domid: 7, folder, paused: false, ownsProcess: false, log: () => {} },
  });
  t.after(async () => {
    await host.destroy();
    rmSync(folder, { recursive: true });
  });
  const tell = (): void => void host.saves.end();
  await assert.rejects(host.save(path, "run", { token: "t", tell }), { message: `${path}: ${ENDED}` });
  assert.equal(existsSync(path), false);
  assert.equal(existsSync(`${path}.part`), false);
  assert.equal(host.info().state, "running");
  await host.save(path, "destroy");
  assert.ok(existsSync(path));
  assert.equal((await host.ended).reason, "destroyed");
});
