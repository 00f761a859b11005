import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { MemoryStore } from "@xenoserver/devices/block/testing/memory-store.ts";
import { StorageError } from "../error.ts";
import { pattern, readAll } from "../testing/store-suite.ts";
import { ImageStore } from "./image-store.ts";
import { openRemote } from "./remote.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-remote-"));
const SIZE = 1 << 20;
const disk = new MemoryStore(SIZE);
disk.bytes.set(pattern(0, 1000, 5));

/** As much of S3's protocol as is used: objects by path, and 404. */
const objects = new Map<string, Buffer>();
const requests: string[] = [];
const server = createServer((request, response) => {
  const key = decodeURIComponent(new URL(request.url!, "http://s3").pathname);
  requests.push(`${request.method} ${key}`);
  const parts: Buffer[] = [];
  request.on("data", (part: Buffer) => parts.push(part));
  request.on("end", () => {
    if (!/Credential=key\//.test(request.headers.authorization ?? "")) return response.writeHead(403).end();
    if (request.method === "PUT") {
      objects.set(key, Buffer.concat(parts));
      return response.writeHead(200).end();
    }
    const object = objects.get(key);
    if (object === undefined) return response.writeHead(404).end();
    response.writeHead(200, { "content-length": object.length }).end(request.method === "GET" ? object : undefined);
  });
});

before(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  process.env["AWS_ENDPOINT_URL"] = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  process.env["AWS_ACCESS_KEY_ID"] = "key";
  process.env["AWS_SECRET_ACCESS_KEY"] = "secret";
});
after(() => {
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true });
});

for (const place of [join(folder, "shared"), "s3://bucket/some/prefix"]) {
  test(`an image goes to ${place.startsWith("s3") ? "a bucket" : "a folder"} and comes from there, each chunk once`, async () => {
    const here = await ImageStore.open(join(folder, `here-${place.length}`));
    await here.import("debian:12", disk);
    const remote = await openRemote(place);
    const first = await here.push("debian:12", remote);
    assert.ok(first.total > 3 && first.sent === first.total);
    assert.deepEqual(await here.push("debian:12", remote), { sent: 0, total: first.total });

    const there = await ImageStore.open(join(folder, `there-${place.length}`), remote);
    await there.pull("debian:12", remote, true);
    const alone = await ImageStore.open(join(folder, `there-${place.length}`));
    assert.equal(Buffer.compare(await readAll(await alone.openImage("debian:12")), disk.bytes), 0);

    const lazy = await ImageStore.open(join(folder, `lazy-${place.length}`), remote);
    await lazy.pull("debian:12", remote, false);
    await lazy.clone("debian:12", "guest");
    const overlay = await lazy.openOverlay("guest");
    requests.length = 0;
    for (let n = 0; n < 3; n++) assert.deepEqual(await readAll(overlay, 4096, 512), disk.bytes.slice(4096, 4608));
    assert.ok(requests.length <= 2, `one chunk and its node: ${requests.join(", ")}`);
    await overlay.close();
    await assert.rejects(lazy.pull("none", remote, false), /has no image none/);
  });
}

test("an object that was changed there is refused", async () => {
  const key = [...objects.keys()].find((path) => path.includes("/chunks/"))!;
  const before = objects.get(key)!;
  objects.set(key, Buffer.concat([Buffer.from([0]), Buffer.from("something else")]));
  const remote = await openRemote("s3://bucket/some/prefix");
  const store = await ImageStore.open(join(folder, "deceived"), remote);
  await assert.rejects(
    store.pull("debian:12", remote, true),
    (error) => error instanceof StorageError && /is damaged/.test(error.message),
  );
  objects.set(key, before);
});

test("a place that cannot be asked is named", async () => {
  process.env["AWS_ACCESS_KEY_ID"] = "wrong";
  const remote = await openRemote("s3://bucket/x");
  await assert.rejects(
    remote.resolve("debian:12"),
    (error) => error instanceof StorageError && /s3:\/\/bucket\/x\/names\/debian:12: /.test(error.message),
  );
});
