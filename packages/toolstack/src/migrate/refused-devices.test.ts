/** A domain whose devices or processors cannot be had at the other end stays where it is. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { spinGuest } from "@xenoserver/testkit";
import { type DomainSpec, specOfConfig } from "../cfg/index.ts";
import { launchDomain } from "../domain/index.ts";
import { tinyConfig, withFile } from "../testing/tiny-domain.ts";
import { ArrivingDomain } from "./index.ts";

const SILENT = { onConsole: () => undefined, onLog: () => undefined };

/** Both ends of a link. */
async function linkOf(folder: string): Promise<{ ends: [Socket, Socket]; close: () => void }> {
  const server = createServer();
  const path = join(folder, "link");
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const arrived = new Promise<Socket>((resolve) => server.once("connection", resolve));
  const near = connect(path);
  return { ends: [near, await arrived], close: () => server.close() };
}

test("a disk that is not there refuses the domain before it stops existing here", { timeout: 50_000 }, () =>
  isRefused((folder) => ({ disk: [`${join(folder, "missing.img")},raw,xvda,rw`] }), /missing\.img/),
);

test("so does a processor that is not there", { timeout: 50_000 }, () =>
  isRefused(() => ({ cpus: "9999" }), /cpus of vcpu 0 has processor 9999, expected those|vcpus cannot be pinned/),
);

/** @param differs  in what the domain's configuration is another one at the other end */
async function isRefused(differs: (folder: string) => DomainSpec, sentence: RegExp): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "xeno-migrate-"));
  try {
    await withFile(spinGuest(64), async (kernel) => {
      const config = tinyConfig(kernel);
      const domain = await launchDomain(config, SILENT);
      const { ends, close } = await linkOf(folder);
      try {
        const elsewhere = { ...specOfConfig(config), ...differs(folder) };
        const sent = domain.migrate(ends[0], elsewhere);
        const outcome = sent.then(
          () => "moved",
          (error: Error) => `${error.name}: ${error.message}`,
        );
        const arriving = await ArrivingDomain.from(ends[1]);
        await assert.rejects(
          launchDomain(arriving.config, SILENT, { from: arriving }).catch(async (error: Error) => {
            await arriving.refuse(error.message);
            throw error;
          }),
          sentence,
        );
        const told = await outcome;
        assert.match(told, /^SaveError: /);
        assert.match(told, sentence);
        assert.equal(domain.isPaused, false, "it runs on here");
      } finally {
        await domain.destroy();
        for (const end of ends) end.destroy();
        close();
      }
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
