import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ControlClient } from "./client.ts";
import { ControlServer } from "./server.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-server-"));
after(() => rmSync(folder, { recursive: true }));

/** A server whose operation ends when it is told to, and a client that has called it. */
async function called(name: string) {
  const path = join(folder, name);
  const begun = Promise.withResolvers<void>();
  const result = Promise.withResolvers<unknown>();
  const server = await ControlServer.listen(path, () => {
    begun.resolve();
    return result.promise;
  });
  const client = await ControlClient.connect(path);
  const answer = client.call("destroy", {});
  // What it rejects with is looked at later.
  answer.catch(() => {});
  await begun.promise;
  return { path, server, client, answer, result };
}

test("who was promised an answer has it before the socket goes", async () => {
  const { path, server, answer, result } = await called("slow");
  const closed = server.close();
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  result.resolve("done");
  assert.equal(await answer, "done");
  await closed;
  assert.equal(existsSync(path), false);
});

test("who asks for something else while the socket goes has the answer that was sent before", async () => {
  const { server, client, answer, result } = await called("asking");
  client.hold();
  const closed = server.close();
  result.resolve("done");
  await sleep(100);
  const other = client.call("info", {});
  other.catch(() => {});
  await sleep(100);
  client.release();
  assert.equal(await answer, "done");
  await assert.rejects(other, /the domain's process is gone/);
  await closed;
});

test("an answer that does not come is not waited for", async () => {
  const { path, server, answer } = await called("never");
  await server.close();
  await assert.rejects(answer, /the domain's process is gone/);
  assert.equal(existsSync(path), false);
});
