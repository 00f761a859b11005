/** What copies of a running guest have of their own, which would go on alike. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { GuestAgent } from "../agent/index.ts";
import { COPY_HOOK } from "../agent/program.ts";
import { type DomainConfig, specOfConfig } from "../cfg/index.ts";
import { launchDomain, type RunningDomain } from "../domain/index.ts";
import type { SavedFile } from "../save/index.ts";
import { AGENT_GUEST } from "../testing/agent-guest.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import { openSaved } from "./index.ts";

const READY_MS = 120_000;
const UP_MS = 200_000;

async function randomOf(domain: RunningDomain): Promise<string> {
  const agent = await domain.agent();
  await agent.ready(READY_MS);
  return (await agent.exec(["head", "-c", "16", "/dev/urandom"])).stdout.toString("hex");
}

/** With a hook that takes a copy's name. */
const GUEST: typeof AGENT_GUEST = {
  ...AGENT_GUEST,
  customise: (tree) => {
    AGENT_GUEST.customise!(tree);
    tree.file(COPY_HOOK.slice(1), '#!/bin/sh\nhostname "$1"\n', 0o755);
  },
};

describe("copies of a guest with our agent", { timeout: 600_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "xeno-random-"));
  const path = join(folder, "snapshot");
  const domains: RunningDomain[] = [];
  let guest: DebianGuest | string;

  const start = async (config: DomainConfig, from?: SavedFile): Promise<RunningDomain> => {
    const domain = await launchDomain(config, { onConsole: () => {} }, from && { from });
    domains.push(domain);
    return domain;
  };
  const copy = async (name: string, laterMs = 0): Promise<RunningDomain> => {
    const from = await openSaved(path);
    Object.assign(from.header, { savedAtMs: from.header.savedAtMs - laterMs });
    return start({ ...from.config, name }, from);
  };
  const ofCopies = async (): Promise<string[]> =>
    Promise.all(["one", "two"].map(async (name) => randomOf(await copy(name))));

  before(async () => {
    guest = await DebianGuest.open();
    if (typeof guest === "string") return;
    const config = await guest.config(GUEST);
    const young = await start(config);
    await randomOf(young);
    await young.snapshot(path, specOfConfig(config));
    // A kernel that is up for two minutes gathers for one before it takes new entropy; a younger one takes some sooner.
    const old = await copy("old", UP_MS);
    await randomOf(old);
    await old.snapshot(path, specOfConfig(config));
  });
  after(async () => {
    await Promise.all(domains.map((domain) => domain.destroy()));
    rmSync(folder, { recursive: true });
  });

  test("run the guest's hook with the name that they have", async (t) => {
    if (typeof guest === "string") return t.skip(guest);
    const copies = await Promise.all(["three", "four"].map((name) => copy(name)));
    for (const [k, name] of ["three", "four"].entries()) {
      const agent = await copies[k]!.agent();
      await agent.ready(READY_MS);
      let hostname: string | undefined;
      while (hostname !== name) hostname = (await agent.exec(["hostname"])).stdout.toString().trim();
    }
  });

  test("have random numbers of their own", async (t) => {
    if (typeof guest === "string") return t.skip(guest);
    const numbers = await ofCopies();
    assert.notEqual(numbers[0], numbers[1]);
  });

  test("would have the same ones if nobody told them", async (t) => {
    if (typeof guest === "string") return t.skip(guest);
    t.mock.method(GuestAgent.prototype, "reseed", () => {});
    const numbers = await ofCopies();
    t.diagnostic(numbers.join(" "));
    assert.equal(numbers[0], numbers[1]);
  });
});
