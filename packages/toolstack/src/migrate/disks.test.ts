/** Disks that go along with a domain to a server with another image store, over links that break, to servers that end or are full. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { BlockStore } from "@xenoserver/devices";
import { openImage } from "@xenoserver/storage";
import { stampGuest } from "@xenoserver/testkit";
import { RecordType } from "../save/records.ts";
import type { Fault } from "../testing/cut-link.ts";
import type { DomainProcess } from "../testing/domain-process.ts";
import { moveTo, reportOf, TestServer } from "../testing/moving-servers.ts";
import { removeLeft } from "./left-list.ts";

const MIB = 1 << 20;
const DISK_BYTES = 8 * MIB + 512;
const folder = mkdtempSync(join(tmpdir(), "xeno-moving-"));
const [kernel, plain] = [join(folder, "kernel"), join(folder, "plain.img")];
const [left, right] = [new TestServer(join(folder, "left")), new TestServer(join(folder, "right"))];
const ID = "mover-xvda";
const spec = {
  name: "mover",
  uuid: randomUUID(),
  kernel,
  memory: 32,
  on_reboot: "restart",
  disk: ["base:1,image,xvda", "base:1,image,xvdb,ro"],
};

const readAll = async (store: BlockStore): Promise<Buffer> => {
  const bytes = Buffer.alloc(store.info.sizeBytes);
  await store.read(0, [bytes]);
  await store.close();
  return bytes;
};
const contentOf = async (server: TestServer): Promise<Buffer> => readAll(await (await server.store()).openOverlay(ID));
const sumOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** A disk as a guest may have left it: written, given back, zeroed over what the image has, and up to its odd end. */
async function writeDisk(server: TestServer): Promise<Buffer> {
  const store = await server.store();
  await store.clone("base:1", ID);
  const overlay = await store.openOverlay(ID);
  await overlay.write(MIB + 512, [randomBytes(3 * MIB)]);
  await overlay.write(5 * MIB, [new Uint8Array(65536)]);
  await overlay.discard(6 * MIB, 65536);
  await overlay.write(DISK_BYTES - 1024, [randomBytes(1024)]);
  await overlay.close();
  return contentOf(server);
}

before(async () => {
  writeFileSync(kernel, stampGuest());
  const base = Buffer.alloc(DISK_BYTES);
  randomBytes(2 * MIB).copy(base);
  randomBytes(2 * MIB).copy(base, 5 * MIB);
  writeFileSync(plain, base);
  const disk = await openImage(plain, { format: "raw", readOnly: true });
  await (await left.store()).import("base:1", disk);
  await disk.close();
});
after(async () => {
  for (const server of [left, right]) await server.remove();
  rmSync(folder, { recursive: true });
});

const stateOf = async (domain: DomainProcess): Promise<string> =>
  (await (await domain.client()).call("info", {})).state;
const destroy = async (domain: DomainProcess): Promise<void> => {
  await (await domain.client()).call("destroy", {});
  await domain.gone;
};

describe("the disks of a domain that moves to another image store", { timeout: 300_000 }, () => {
  test("are there and no longer here, and move back", async () => {
    const written = await writeDisk(left);
    let here = left.start(spec);
    await here.client();
    for (const [from, to] of [
      [left, right],
      [right, left],
    ] as const) {
      const moved = await moveTo(to, here, spec);
      const { diskBytes, sentBytes, leftHere } = reportOf(moved);
      assert.ok(diskBytes >= 3 * MIB && diskBytes < 4 * MIB && sentBytes > diskBytes, String(diskBytes));
      assert.deepEqual([leftHere, await from.overlays(), await to.overlays()], [[], [], [ID]]);
      assert.equal(await stateOf(moved.there), "running");
      assert.equal(existsSync(join(moved.there.folder, "arrival.json")), false);
      await here.gone;
      here = moved.there;
    }
    await destroy(here);
    assert.equal(sumOf(await contentOf(left)), sumOf(written));
    assert.deepEqual(
      (await (await right.store()).list()).map(({ name }) => name),
      ["base:1"],
      "which xvdb is",
    );
  });

  const first =
    (type: number) =>
    (is: number): boolean =>
      is === type;
  const cuts: Record<string, Fault> = {
    "at its configuration": { by: "sender", cutAt: first(RecordType.config) },
    "when it is asked for a chunk": { by: "receiver", cutAt: first(RecordType.want) },
    "at a chunk": { by: "sender", cutAt: first(RecordType.chunk) },
    "when there is a place": { by: "receiver", cutAt: first(RecordType.placed) },
    "at a block": { by: "sender", cutAt: first(RecordType.blocks) },
    "at a later block": { by: "sender", cutAt: (type, count) => type === RecordType.blocks && count > 20 },
    "at a frame": { by: "sender", cutAt: first(RecordType.frames) },
    "when the other side shall catch up": { by: "sender", cutAt: first(RecordType.sync) },
    "when it has": { by: "receiver", cutAt: first(RecordType.synced) },
    "when it stands still": { by: "sender", cutAt: first(RecordType.clock) },
    "at the end": { by: "sender", cutAt: first(RecordType.end) },
    "when the other side is ready": { by: "receiver", cutAt: first(RecordType.ready) },
  };

  test("stay here whole, and leave nothing there, wherever the link is cut; then they move", async () => {
    await (await left.store()).removeOverlay(ID);
    const written = await writeDisk(left);
    const here = left.start(spec);
    await here.client();
    for (const [when, fault] of Object.entries(cuts)) {
      await forgetImage(right);
      const { sent, there } = await moveTo(right, here, spec, { fault });
      assert.ok(sent instanceof Error, when);
      assert.match(sent.message, /could not be moved/, when);
      await there.gone;
      assert.deepEqual([await right.overlays(), await stateOf(here)], [[], "running"], when);
      await assert.rejects(contentOf(left), /in use by another domain/, `${when}: its disk is open here`);
    }
    const moved = await moveTo(right, here, spec);
    reportOf(moved);
    await destroy(moved.there);
    assert.equal(sumOf(await contentOf(right)), sumOf(written));
    assert.deepEqual(await left.overlays(), []);
  });

  test("are kept on both sides while it is in doubt where it runs", async () => {
    const written = await contentOf(right);
    let here = right.start(spec);
    await here.client();
    let move = await moveTo(left, here, spec, { fault: { by: "sender", cutAt: first(RecordType.commit) } });
    assert.match(String(move.sent), /it may run there, and is paused here/);
    await move.there.gone;
    assert.deepEqual([await left.overlays(), await right.overlays()], [[], [ID]]);
    await (await here.client()).call("unpause", {});
    await assert.rejects(contentOf(right), /in use/);

    move = await moveTo(left, here, spec, { fault: { by: "receiver", cutAt: first(RecordType.running) } });
    assert.match(String(move.sent), /it may run there, and is paused here/);
    assert.equal(await stateOf(move.there), "running");
    assert.deepEqual([await left.overlays(), await right.overlays()], [[ID], [ID]]);
    assert.equal(sumOf(await contentOf(right)), sumOf(written), "closed here, and whole");
    await (await here.client()).call("destroy", { runsElsewhere: true });
    assert.deepEqual([await left.overlays(), await right.overlays()], [[ID], []]);
    here = move.there;
    await destroy(here);
    assert.equal(sumOf(await contentOf(left)), sumOf(written));
  });

  test("leave nothing behind of a process that is killed there", async () => {
    const here = left.start(spec);
    await here.client();
    for (const type of [RecordType.chunk, RecordType.blocks, RecordType.sync, RecordType.end]) {
      await forgetImage(right);
      let victim: DomainProcess | undefined;
      const fault: Fault = {
        by: "sender",
        cutAt: (is) => {
          if (is === type) victim?.child.kill("SIGKILL");
          return false;
        },
      };
      const { sent, there } = await moveTo(right, here, spec, { fault }, (process) => (victim = process));
      assert.ok(sent instanceof Error, `killed at a record of type ${type}`);
      await there.gone;
      // As an agent does.
      await removeLeft(there.folder, await right.store());
      assert.deepEqual([await right.overlays(), await stateOf(here)], [[], "running"]);
    }
    await destroy(here);
  });

  test("do not replace a disk of the same name there", async () => {
    const store = await right.store();
    await store.import("other:1", await openImage(plain, { format: "raw", readOnly: true }));
    await store.clone("other:1", ID);
    const here = left.start(spec);
    await here.client();
    const { sent, there } = await moveTo(right, here, spec);
    assert.match(String(sent), /disk xvda: there is a disk mover-xvda with other contents here/);
    await there.gone;
    assert.deepEqual([await right.overlays(), await stateOf(here)], [[ID], "running"]);
    await store.removeOverlay(ID);
    await destroy(here);
  });

  test("stay where there is no room for them there", async (t) => {
    const room = join(folder, "room");
    mkdirSync(room);
    if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=24m", "none", room]).status !== 0)
      return t.skip("mount needs root");
    const small = new TestServer(join(folder, "small"), room);
    try {
      const store = await left.store();
      if (!(await store.hasOverlay(ID))) await writeDisk(left);
      const here = left.start(spec);
      await here.client();
      const filler = join(room, "filler");
      // Full when its first block comes; then before anything is made; then when chunks come.
      const atBlock: Fault = {
        by: "sender",
        cutAt: (type) => {
          if (type === RecordType.blocks) fill(filler);
          return false;
        },
      };
      let move = await moveTo(small, here, spec, { fault: atBlock });
      assert.match(String(move.sent), /could not be moved: .*its file system is full/);
      await move.there.gone;
      assert.deepEqual([await small.overlays(), await stateOf(here)], [[], "running"]);

      move = await moveTo(small, here, spec);
      assert.match(String(move.sent), /disk xvda: needs \d+ bytes here, expected ≤ \d+ that are free/);
      await move.there.gone;

      rmSync(filler);
      move = await moveTo(small, here, spec);
      reportOf(move);
      await destroy(move.there);
      assert.equal((await contentOf(small)).length, DISK_BYTES);
    } finally {
      await small.remove();
      spawnSync("umount", [room]);
    }
  });

  test("that are files are copied if that is asked for, and leave with the domain", async () => {
    const own = { ...spec, disk: [`${plain},raw,xvda`] };
    const here = left.start(own);
    await here.client();
    const moved = await moveTo(right, here, own, { copyStorage: true });
    reportOf(moved);
    assert.equal(right.files.length, 1);
    const copy = join(right.disks, right.files[0]!);
    assert.equal(sumOf(readFileSync(copy)), sumOf(readFileSync(plain)), "what was somebody's stays here");
    const back = await moveTo(left, moved.there, own, { copyStorage: true });
    reportOf(back);
    assert.deepEqual([right.files.length, left.files.length], [0, 1]);
    await destroy(back.there);
    assert.equal(sumOf(readFileSync(join(left.disks, left.files[0]!))), sumOf(readFileSync(plain)));
  });

  test("bring the kernel along, where there is another or none", async () => {
    // A path that is another file for each server.
    const own = { name: "stranger", uuid: randomUUID(), kernel: "/proc/self/cwd/own-kernel", memory: 32 };
    writeFileSync(join(left.folder, "own-kernel"), stampGuest());
    const here = left.start(own);
    await here.client();
    const moved = await moveTo(right, here, own);
    reportOf(moved);
    const brought = join(moved.there.folder, "kernel");
    assert.deepEqual(readFileSync(brought), Buffer.from(stampGuest()));
    writeFileSync(join(left.folder, "own-kernel"), "another");
    const back = await moveTo(left, moved.there, own);
    reportOf(back);
    assert.deepEqual(readFileSync(join(back.there.folder, "kernel")), Buffer.from(stampGuest()));
    await destroy(back.there);
  });
});

/** Takes all that is left of a file system. */
function fill(path: string): void {
  const piece = Buffer.alloc(65536, 1);
  for (;;) {
    try {
      appendFileSync(path, piece);
    } catch {
      return;
    }
  }
}

/** The next domain finds neither the image nor its chunks. */
async function forgetImage(server: TestServer): Promise<void> {
  const store = await server.store();
  for (const { name } of await store.list()) await store.remove(name);
  await store.collect(0);
}
