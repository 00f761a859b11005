import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Confinement } from "./confinement.ts";
import { agentHome } from "./home.ts";
import { spawnZygote } from "./spawn.ts";
import { Zygotes } from "./zygotes.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-zygotes-"));
after(() => rmSync(folder, { recursive: true, force: true }));

test("a process waits for domains once there are some, unless that is not wanted, and ends with who keeps it", {
  timeout: 300_000,
}, async () => {
  const [wanted, unwanted] = [join(folder, "wanted"), join(folder, "unwanted")];
  const confinement = new Confinement(agentHome({ XENO_AGENT_HOME: folder }));
  const keeping = new Zygotes(wanted, true, confinement);
  const sparing = new Zygotes(unwanted, false, confinement);
  const names = (path: string): string[] => {
    try {
      return readdirSync(path);
    } catch {
      return [];
    }
  };
  for (const zygotes of [keeping, sparing]) zygotes.expect({ vcpus: 1, memoryMib: 32 });
  while (names(wanted).length === 0) await sleep(20);
  assert.deepEqual(names(unwanted), []);
  const zygote = sparing.take({ vcpus: 1, memoryMib: 32 });
  assert.equal(zygote.isGone, false, "one that is needed is started then");
  assert.equal(names(unwanted).length, 1);
  zygote.seal();
  keeping.close();
  while (names(wanted).length + names(unwanted).length > 0) await sleep(20);
});

test("one that ends while its threads begin leaves nothing of its own, with nobody to sweep after it", {
  timeout: 300_000,
}, async () => {
  const { NODE_COMPILE_CACHE: kept } = process.env;
  const all = join(folder, "brief");
  try {
    for (let n = 0; n < 12; n++) {
      const own = join(all, String(n));
      mkdirSync(own, { recursive: true });
      process.env["NODE_COMPILE_CACHE"] = join(own, "code");
      const { requests, replies } = spawnZygote(own, { group: undefined, user: undefined });
      requests.write(`${JSON.stringify({ kind: "warm", vcpus: 1, memoryMib: 32 })}\n`);
      setTimeout(() => requests.end(), 60 + n * 30);
      for await (const _ of replies);
    }
  } finally {
    process.env["NODE_COMPILE_CACHE"] = kept;
    if (kept === undefined) delete process.env["NODE_COMPILE_CACHE"];
  }
  assert.deepEqual(readdirSync(all), []);
});
