import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { after, describe, test } from "node:test";
import { join, tunnel } from "./tunnel.ts";

const folder = mkdtempSync(joinPath(tmpdir(), "xeno-tunnel-"));
after(() => rmSync(folder, { recursive: true }));
let count = 0;

/** Both ends of a line, which are nobody's to destroy but the test's. */
async function line(): Promise<[Socket, Socket]> {
  const path = joinPath(folder, String(count++));
  const server = createServer().listen(path);
  await once(server, "listening");
  const one = connect(path);
  const [other] = (await once(server, "connection")) as [Socket];
  server.close();
  for (const socket of [one, other]) socket.on("error", () => {});
  return [one, other];
}

describe("lines that are joined", { timeout: 60_000 }, () => {
  test("pass on what was said before an end, and the end", async () => {
    const [[near, a], [b, far]] = [await line(), await line()];
    join(a, b);
    near.end("last words");
    const heard: string[] = [];
    for await (const bytes of far) heard.push(String(bytes));
    assert.deepEqual(heard, ["last words"]);
    await once(near.resume(), "close");
  });

  test("do not wait for good for one who takes nothing and says nothing", async () => {
    const [[near, a], [b, far]] = [await line(), await line()];
    join(a, b, 1);
    const closed = once(b, "close");
    near.end("unheard");
    await closed;
    far.destroy();
  });

  test("are let go of behind a move, also where one takes no more", async () => {
    const [b, far] = await line();
    const path = joinPath(folder, "tunnel");
    const close = await tunnel(path, async () => b, 1);
    const near = connect(path).on("error", () => {});
    // Until nothing more fits on the way, so that nobody reads what near says.
    for (let last = -1; last !== near.bytesWritten - near.writableLength; await new Promise((r) => setTimeout(r, 50))) {
      last = near.bytesWritten - near.writableLength;
      near.write(Buffer.alloc(1 << 20));
    }
    near.destroy();
    const closed = once(b, "close");
    close();
    await closed;
    far.destroy();
  });
});
