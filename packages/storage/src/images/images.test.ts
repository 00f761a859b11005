import assert from "node:assert/strict";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, describe, test } from "node:test";
import { MemoryStore } from "@xenoserver/devices/block/testing/memory-store.ts";
import fc from "fast-check";
import { StorageError } from "../error.ts";
import { contentOf } from "../files/content.ts";
import { checkAgainstModel, operations, pattern, readAll } from "../testing/store-suite.ts";
import { type Digest, isZero, packChunk } from "./chunk.ts";
import { ImageStore } from "./image-store.ts";
import type { OverlayStore } from "./overlay.ts";

const top = mkdtempSync(join(tmpdir(), "xeno-images-"));
after(() => rmSync(top, { recursive: true }));

let folder: string;
let images: ImageStore;
const open: OverlayStore[] = [];
let folders = 0;
beforeEach(async () => {
  folder = join(top, String(folders++));
  images = await ImageStore.open(folder);
});
afterEach(async () => {
  for (const overlay of open.splice(0)) await overlay.close().catch(() => {});
});

const MIB = 1 << 20;
const SIZE = 4 * MIB + 512;

function diskOf(bytes: Uint8Array): MemoryStore {
  const disk = new MemoryStore(bytes.length);
  disk.bytes.set(bytes);
  return disk;
}

function someBytes(): Uint8Array {
  const bytes = new Uint8Array(SIZE);
  bytes.set(pattern(0, 1000, 1));
  bytes.set(pattern(6000, 2193, 2), 6000 * 512);
  return bytes;
}

async function openOverlay(id: string): Promise<OverlayStore> {
  const overlay = await images.openOverlay(id);
  open.push(overlay);
  return overlay;
}

async function cloned(image: string, id: string): Promise<OverlayStore> {
  await images.clone(image, id);
  return openOverlay(id);
}

const chunkFiles = (): string[] =>
  readdirSync(join(folder, "chunks"), { recursive: true })
    .map(String)
    .filter((name) => name.length > 60);

describe("files that come with an image", () => {
  const kernel = pattern(0, 300, 7).subarray(0, 150_001);
  const importWithKernel = () =>
    images.import("bootable", diskOf(someBytes()), undefined, {
      files: { kernel: contentOf(kernel), empty: contentOf("") },
      about: { os: "some" },
    });

  test("come out as they went in, also of a disk's new image", async () => {
    await importWithKernel();
    const { files, about } = await images.extras("bootable");
    assert.deepEqual(about, { os: "some" });
    const path = await images.unpackFile(files!["kernel"]!);
    assert.ok(readFileSync(path).equals(kernel));
    assert.equal(readFileSync(await images.unpackFile(files!["empty"]!)).length, 0);
    const disk = await cloned("bootable", "disk");
    await images.commit(disk, "next");
    assert.deepEqual(await images.extras("next"), { files, about });
  });

  test("last as long as the image has a name, and go with it", async () => {
    await importWithKernel();
    await images.tag("bootable", "other");
    await images.remove("bootable");
    await images.collect(0);
    const { files } = await images.extras("other");
    const path = await images.unpackFile(files!["kernel"]!);
    rmSync(path);
    await images.unpackFile(files!["kernel"]!);
    await images.remove("other");
    await images.collect(0);
    assert.deepEqual(chunkFiles(), []);
    assert.deepEqual(readdirSync(join(folder, "boot")), []);
  });

  test("a manifest that says nonsense of them is refused", async () => {
    const manifest = { version: 1, sizeBytes: 512, chunkBytes: 65536, nodes: [""], extras: { files: { kernel: 7 } } };
    const digest = await images.chunks.put(Buffer.from(JSON.stringify(manifest)));
    await assert.rejects(images.extras(digest), /what its manifest says beside the disk is malformed/);
  });

  test("a name for nothing is refused", () =>
    assert.rejects(images.tag("nothing", "name"), /image nothing: there is none of this name/));
});

describe("images", () => {
  test("hold what the disk held; equal chunks are kept once, zeros not at all", async () => {
    const bytes = someBytes();
    const digest = await images.import("debian", diskOf(bytes));
    const image = await images.openImage("debian");
    assert.equal(Buffer.compare(await readAll(image), bytes), 0);
    const before = chunkFiles().length;
    assert.ok(before < SIZE / 65536, `${before} files`);
    assert.equal(await images.import("again", diskOf(bytes)), digest, "the same disk is the same image");
    assert.equal(chunkFiles().length, before);
    assert.deepEqual(
      (await images.list()).map(({ name, sizeBytes }) => [name, sizeBytes]),
      [
        ["again", SIZE],
        ["debian", SIZE],
      ],
    );
  });

  test("are not written", async () => {
    await images.import("debian", diskOf(someBytes()));
    await assert.rejects((await images.openImage("debian")).write(), /is never written/);
  });

  test("a chunk that was damaged is found out, whatever was done to it", async () => {
    await images.import("debian", diskOf(someBytes()));
    for (const file of chunkFiles()) {
      const path = join(folder, "chunks", file);
      const bytes = readFileSync(path);
      for (const change of [
        () => bytes.subarray(0, 5),
        () => bytes.subarray(0, bytes.length >> 1),
        () => Buffer.from([7]),
      ]) {
        writeFileSync(path, change());
        await assert.rejects(images.chunks.get(file.slice(-64) as Digest), /is damaged/);
      }
      writeFileSync(path, await packChunk(Buffer.from("another chunk")));
      await assert.rejects(images.chunks.get(file.slice(-64) as Digest), /its SHA-256 is/);
      writeFileSync(path, bytes);
    }
  });

  test("names and manifests that make no sense are refused", async () => {
    await assert.rejects(images.resolve("../x"), /expected a name of letters/);
    await assert.rejects(images.resolve("none"), /there is none of this name/);
    await assert.rejects(images.import("a/b", diskOf(someBytes())), StorageError);
    for (const text of [
      "{",
      "{}",
      '{"version":1,"sizeBytes":512,"chunkBytes":5,"nodes":[]}',
      '{"version":1,"sizeBytes":512,"chunkBytes":65536,"nodes":["x"]}',
    ]) {
      const digest = await images.chunks.put(Buffer.from(text));
      await assert.rejects(images.openImage(digest), StorageError);
    }
  });
});

describe("a disk on an image", () => {
  test("any operations, snapshots and reopenings leave what they should, and the image as it was", async () => {
    const bytes = someBytes();
    await images.import("debian", diskOf(bytes));
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(
        operations(Math.floor(SIZE / 512), [
          "write",
          "write",
          "write",
          "read",
          "discard",
          "flush",
          "reopen",
          "snapshot",
        ]),
        async (steps) => {
          const id = `disk-${runs++}`;
          await images.clone("debian", id);
          const model = bytes.slice();
          const overlay = (await checkAgainstModel(
            () => images.openOverlay(id),
            model,
            steps,
            async (_, store) => {
              const before = await readAll(store);
              const digest = await images.commit(store as OverlayStore);
              assert.equal(Buffer.compare(await readAll(await images.openImage(digest)), before), 0);
              return store;
            },
          )) as OverlayStore;
          await images.commit(overlay, `image-${id}`);
          assert.equal(Buffer.compare(await readAll(await images.openImage(`image-${id}`)), model), 0);
          await overlay.close();
        },
      ),
      { numRuns: 12 },
    );
    assert.equal(Buffer.compare(await readAll(await images.openImage("debian")), bytes), 0);
    // What the runs left behind depends on their operations; this is in nobody's image any more.
    await images.import("scrap", diskOf(new Uint8Array(SIZE).fill(0x5a)));
    await images.remove("scrap");
    assert.ok((await images.collect(0)).trashed > 0);
    for (const { name } of await images.list()) await readAll(await images.openImage(name));
  });

  test("is used by one domain at a time", async () => {
    await images.import("debian", diskOf(someBytes()));
    const overlay = await cloned("debian", "guest-xvda");
    await assert.rejects(images.openOverlay("guest-xvda"), /is in use by another domain/);
    await assert.rejects(images.removeOverlay("guest-xvda"), /is in use/);
    await assert.rejects(images.clone("debian", "guest-xvda"), /is there already/);
    await overlay.close();
    await images.removeOverlay("guest-xvda");
    assert.deepEqual(await images.listOverlays(), []);
  });

  test("is snapshotted while it is written: the image is the disk at one moment", async () => {
    await images.import("debian", diskOf(new Uint8Array(2 * MIB)));
    const overlay = await cloned("debian", "guest");
    let stop = false;
    let round = 0;
    // Both halves always get the same round, one after the other: an image may miss the second half of one round only.
    const writing = (async () => {
      while (!stop) {
        round = (round % 250) + 1;
        await overlay.write(0, [new Uint8Array(MIB).fill(round)]);
        await overlay.write(MIB, [new Uint8Array(MIB).fill(round)]);
      }
    })();
    for (let n = 0; n < 5; n++) {
      const bytes = await readAll(await images.openImage(await images.commit(overlay)));
      const [first, second] = [bytes[0]!, bytes[MIB]!];
      assert.ok(first === second || (first - second + 250) % 250 === 1, `${first} ${second}`);
      assert.ok(bytes.subarray(0, MIB).every((byte) => byte === first));
      assert.ok(bytes.subarray(MIB).every((byte) => byte === second));
    }
    stop = true;
    await writing;
    assert.equal((await readAll(overlay))[MIB], round);
  });

  test("commits that are asked for at the same time come one after the other", async () => {
    await images.import("debian", diskOf(someBytes()));
    const overlay = await cloned("debian", "guest");
    await overlay.write(0, [pattern(0, 8, 1)]);
    const first = images.commit(overlay, "first");
    await overlay.write(4096, [pattern(8, 8, 2)]);
    const second = images.commit(overlay, "second");
    const third = images.commit(overlay);
    await Promise.all([first, second, third]);
    assert.equal(await second, await third);
    assert.deepEqual(await readAll(await images.openImage("second"), 4096, 4096), pattern(8, 8, 2));
    assert.deepEqual(await readAll(overlay, 0, 4096), pattern(0, 8, 1));
  });

  test("is found in use by whatever path the store is opened", async () => {
    await images.import("debian", diskOf(someBytes()));
    await cloned("debian", "guest");
    symlinkSync(folder, `${folder}-link`);
    const again = await ImageStore.open(`${folder}-link`);
    await assert.rejects(again.openOverlay("guest"), /is in use by another domain/);
  });

  test("grows, and is zero where it is new", async () => {
    await images.import("debian", diskOf(someBytes()));
    const overlay = await cloned("debian", "guest");
    await overlay.grow(SIZE + MIB);
    assert.ok(isZero(await readAll(overlay, SIZE, MIB)));
    await overlay.write(SIZE, [pattern(1, 3, 4)]);
    await images.commit(overlay, "grown");
    const image = await images.openImage("grown");
    assert.equal(image.info.sizeBytes, SIZE + MIB);
    assert.deepEqual(await readAll(image, SIZE, 3 * 512), pattern(1, 3, 4));
    await assert.rejects(overlay.grow(512), /expected a multiple of 512 from/);
  });

  test("two partial writes to one block at the same time both arrive", async () => {
    await images.import("debian", diskOf(someBytes()));
    const overlay = await cloned("debian", "guest");
    await Promise.all(Array.from({ length: 64 }, (_, n) => overlay.write(2 * MIB + n * 512, [pattern(n, 1, 3)])));
    for (let n = 0; n < 64; n++) assert.deepEqual(await readAll(overlay, 2 * MIB + n * 512, 512), pattern(n, 1, 3));
  });

  test("whose creation was cut short can be created again", async () => {
    await images.import("debian", diskOf(someBytes()));
    await images.clone("debian", "guest");
    rmSync(join(folder, "overlays", "guest", "overlay.json"));
    await images.clone("debian", "guest");
    writeFileSync(join(folder, "overlays", "guest", "7.data"), "left by a snapshot that was cut short");
    await openOverlay("guest");
    assert.ok(!existsSync(join(folder, "overlays", "guest", "7.data")));
  });
});

describe("chunks that are not here", () => {
  test("come from elsewhere, are checked, and stay", async () => {
    await images.import("debian", diskOf(someBytes()));
    const digest = await images.resolve("debian");
    const fetched: string[] = [];
    const note = (chunk: Digest) => {
      fetched.push(chunk);
      return images.chunks.fetch(chunk);
    };
    const far = { name: "far", fetch: note };
    const near = await ImageStore.open(`${folder}-near`, far);
    for (let n = 0; n < 2; n++)
      assert.equal(Buffer.compare(await readAll(await near.openImage(digest)), someBytes()), 0);
    assert.equal(new Set(fetched).size, fetched.length, "each chunk was asked for once");
  });

  test("that are damaged there are refused, and not kept", async () => {
    await images.import("debian", diskOf(someBytes()));
    const digest = await images.resolve("debian");
    const far = { name: "far", fetch: async () => packChunk(Buffer.from("something else")) };
    const near = await ImageStore.open(`${folder}-near`, far);
    await assert.rejects(near.openImage(digest), /chunk far\/.*: is damaged, its SHA-256 is/);
    assert.equal(await near.chunks.has(digest), false);
    const nowhere = await ImageStore.open(`${folder}-nowhere`, { name: "nowhere", fetch: async () => undefined });
    await assert.rejects(nowhere.openImage(digest), /is not in nowhere/);
  });
});

describe("garbage collection", () => {
  test("keeps what images and disks need, and gives back the rest, but not at once", async () => {
    await images.import("a", diskOf(pattern(0, 2048, 1)));
    await images.import("b", diskOf(pattern(0, 2048, 2)));
    await images.clone("b", "guest");
    await images.remove("a");
    await images.remove("b");
    const first = await images.collect(60_000);
    assert.ok(first.trashed > 0 && first.deleted === 0 && first.kept > 0);
    const second = await images.collect(0);
    assert.ok(second.deleted === first.trashed && second.deletedBytes > 0);
    assert.deepEqual(await readAll(await openOverlay("guest")), pattern(0, 2048, 2));
  });

  test("an image that is imported again while its chunks are in the trash is whole", async () => {
    await images.import("a", diskOf(pattern(0, 2048, 1)));
    await images.remove("a");
    await images.collect(60_000);
    assert.equal(chunkFiles().length, 0);
    await images.import("b", diskOf(pattern(0, 2048, 1)));
    await images.collect(0);
    assert.deepEqual(await readAll(await images.openImage("b")), pattern(0, 2048, 1));
  });

  test("racing with imports, commits, clones and removals loses nothing, though nothing stays in the trash", async () => {
    await images.import("base", diskOf(pattern(0, 1024, 9)));
    const overlay = await cloned("base", "guest");
    let stop = false;
    const collecting = (async () => {
      let count = 0;
      while (!stop) {
        await images.collect(0);
        count++;
      }
      return count;
    })();
    for (let round = 0; round < 25; round++) {
      const name = `i${round % 3}`;
      const bytes = pattern(0, 1024, (round % 4) + 1);
      await Promise.all([
        images.import(name, diskOf(bytes)),
        overlay.write((round % 8) * 65536, [bytes.subarray(0, 65536)]).then(() => images.commit(overlay, "committed")),
      ]);
      await images.clone(name, `clone-${round}`);
      await images.remove(name);
      const clone = await openOverlay(`clone-${round}`);
      assert.equal(Buffer.compare(await readAll(clone), bytes), 0);
      assert.equal(Buffer.compare(await readAll(await images.openImage("committed")), await readAll(overlay)), 0);
    }
    stop = true;
    assert.ok((await collecting) > 3);
    for (const id of await images.listOverlays()) {
      if (id === "guest") continue;
      const { base } = open.find((overlayStore) => overlayStore.base !== undefined)!;
      await readAll(base);
    }
    assert.equal(readdirSync(join(folder, "pins")).length, 0);
  });

  test("a damaged image stops it before it throws anything away", async () => {
    await images.import("a", diskOf(pattern(0, 2048, 1)));
    await images.import("gone", diskOf(pattern(0, 2048, 2)));
    await images.remove("gone");
    const digest = await images.resolve("a");
    const path = join(folder, "chunks", digest.slice(0, 2), digest);
    const before = chunkFiles().length;
    writeFileSync(path, "x");
    await assert.rejects(images.collect(0), StorageError);
    assert.equal(chunkFiles().length, before);
  });

  test("what a process left that died while it wrote is swept away", async () => {
    const left = join(folder, "partial", "x");
    writeFileSync(left, "half a chunk");
    utimesSync(left, 1, 1);
    await images.collect(60_000);
    assert.ok(!existsSync(left));
  });
});
