import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, describe, test } from "node:test";
import type { BlockStore } from "@xenoserver/devices/block/store.ts";
import fc from "fast-check";
import { StorageError } from "../error.ts";
import { openImage } from "../open.ts";
import { noQemu, qemuImg, qemuIo } from "../testing/qemu.ts";
import { checkAgainstModel, operations, pattern, readAll } from "../testing/store-suite.ts";
import { createQcow2 } from "./create.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-qcow2-"));
after(() => rmSync(folder, { recursive: true }));
let files = 0;
const fresh = (suffix = "qcow2"): string => join(folder, `${files++}.${suffix}`);
const opened: BlockStore[] = [];
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close().catch(() => {});
});

async function open(path: string, readOnly = false): Promise<BlockStore> {
  const store = await openImage(path, { format: "qcow2", readOnly });
  opened.push(store);
  return store;
}

/** QEMU finds nothing wrong, not even clusters that nobody uses. */
async function checked(path: string): Promise<void> {
  await qemuImg("check", "-q", path);
}

const MIB = 1 << 20;

describe("an image of ours, as QEMU sees it", { skip: noQemu ?? false }, () => {
  for (const clusterBits of [9, 12, 16, 21]) {
    test(`clusters of ${2 ** clusterBits} bytes: any operations leave what they should, and a file that is right`, async () => {
      const sizeBytes = clusterBits === 9 ? MIB : 4 * MIB;
      await fc.assert(
        fc.asyncProperty(
          operations(sizeBytes / 512, ["write", "write", "read", "discard", "flush", "reopen"]),
          async (steps) => {
            const path = fresh();
            await createQcow2(path, { sizeBytes, clusterBits });
            const model = new Uint8Array(sizeBytes);
            const store = await checkAgainstModel(() => open(path), model, steps);
            await store.close();
            await checked(path);
            const raw = fresh("raw");
            await qemuImg("convert", "-O", "raw", path, raw);
            assert.deepEqual(Buffer.compare(readFileSync(raw), model), 0);
            rmSync(path);
            rmSync(raw);
          },
        ),
        { numRuns: 12 },
      );
    });
  }

  test("tables of counts grow with the image", async () => {
    const path = fresh();
    await createQcow2(path, { sizeBytes: 64 * MIB, clusterBits: 9 });
    const store = await open(path);
    for (let at = 0; at < 24 * MIB; at += MIB) await store.write(at, [new Uint8Array(MIB).fill(at / MIB + 1)]);
    await store.close();
    await checked(path);
    assert.match(await qemuIo(path, "qcow2", ["read -P 24 23M 1M"]), /read 1048576/);
  });

  test("concurrent writes to one cluster and to many do not disturb one another", async () => {
    const path = fresh();
    await createQcow2(path, { sizeBytes: 16 * MIB });
    const store = await open(path);
    const sectors = Array.from({ length: 512 }, (_, n) => (n * 37) % 4096);
    await Promise.all(sectors.map((sector) => store.write(sector * 512, [pattern(sector, 1, 1)])));
    for (const sector of sectors) assert.deepEqual(await readAll(store, sector * 512, 512), pattern(sector, 1, 1));
    await store.close();
    await checked(path);
  });

  for (const clusterBits of [9, 16]) {
    test(`a disk grows, with clusters of ${2 ** clusterBits} bytes`, async () => {
      const path = fresh();
      await createQcow2(path, { sizeBytes: MIB, clusterBits });
      const store = (await open(path)) as BlockStore & { grow(sizeBytes: number): Promise<void> };
      await store.write(MIB - 512, [pattern(1, 1, 1)]);
      await store.grow(64 * MIB);
      assert.equal(store.info.sizeBytes, 64 * MIB);
      assert.deepEqual(await readAll(store, 63 * MIB, 4096), new Uint8Array(4096));
      await store.write(63 * MIB, [pattern(2, 8, 2)]);
      await assert.rejects(store.grow(MIB), /new size is 1048576 bytes, expected a multiple of 512 from 67108864 up/);
      await store.close();
      await checked(path);
      const again = await open(path);
      assert.deepEqual(await readAll(again, 63 * MIB, 4096), pattern(2, 8, 2));
      assert.deepEqual(await readAll(again, MIB - 512, 512), pattern(1, 1, 1));
    });
  }

  test("given-back clusters are used again", async () => {
    const path = fresh();
    await createQcow2(path, { sizeBytes: 16 * MIB });
    const store = await open(path);
    for (let round = 0; round < 6; round++) {
      await store.write((round % 2) * 8 * MIB, [new Uint8Array(4 * MIB).fill(round)]);
      await store.flush();
      await store.discard(((round + 1) % 2) * 8 * MIB, 8 * MIB);
      await store.flush();
    }
    await store.close();
    await checked(path);
    assert.ok(statSync(path).size < 14 * MIB, `${statSync(path).size}`);
  });

  test("a crash at any time leaves nothing worse than clusters that nobody uses", async () => {
    const path = fresh();
    await createQcow2(path, { sizeBytes: 4 * MIB, clusterBits: 12 });
    const store = await open(path);
    await store.write(0, [new Uint8Array(MIB).fill(1)]);
    await store.flush();
    await store.write(0, [new Uint8Array(2 * MIB).fill(2)]);
    await store.discard(MIB, MIB);
    const copy = fresh();
    writeFileSync(copy, readFileSync(path));
    await qemuImg("check", "-q", copy).catch((error: { code: number }) => assert.equal(error.code, 3, "3 means leaks"));
  });
});

describe("an image of QEMU's", { skip: noQemu ?? false }, () => {
  for (const options of [
    "compat=0.10",
    "compat=1.1",
    "cluster_size=4k",
    "refcount_bits=1",
    "refcount_bits=8",
    "refcount_bits=64",
    "preallocation=metadata",
    "preallocation=falloc",
  ]) {
    test(`${options}: read, written, and right afterwards`, async () => {
      const path = fresh();
      await qemuImg("create", "-q", "-f", "qcow2", "-o", options, path, "8M");
      await qemuIo(path, "qcow2", ["write -q -P 1 0 1M", "write -q -P 2 3M 100k", "write -q -z 512k 64k"]);
      const store = await open(path);
      assert.deepEqual((await readAll(store, 3 * MIB, 512))[0], 2);
      assert.deepEqual((await readAll(store, 512 << 10, 512))[0], 0);
      await store.write(MIB - 512, [new Uint8Array(MIB).fill(9)]);
      await store.write((512 << 10) + 1024, [new Uint8Array(512).fill(8)]);
      await store.discard(3 * MIB, 128 << 10);
      await store.close();
      await checked(path);
      await qemuIo(path, "qcow2", [
        "read -P 1 0 512k",
        "read -P 9 1048064 1M",
        "read -P 8 525312 512",
        "read -P 0 512k 1k",
        "read -P 0 3M 64k",
      ]);
    });
  }

  for (const compression of ["zlib", "zstd"]) {
    test(`compressed with ${compression}: read, and overwritten in place`, async () => {
      const raw = fresh("raw");
      const noise = Buffer.concat([pattern(0, 4096, 3), new Uint8Array(MIB), Buffer.from("text ".repeat(100_000))]);
      writeFileSync(raw, noise.subarray(0, 3 * MIB));
      truncateSync(raw, 3 * MIB);
      const path = fresh();
      await qemuImg("convert", "-c", "-O", "qcow2", "-o", `compression_type=${compression}`, raw, path);
      const store = await open(path);
      const model = new Uint8Array(readFileSync(raw));
      const [steps] = fc.sample(operations(model.length / 512, ["write", "read", "discard"]), { seed: 7, numRuns: 1 });
      await checkAgainstModel(async () => store, model, steps!);
      await store.close();
      await checked(path);
    });
  }

  test("on a backing file, which stays as it is; discarded clusters do not show it", async () => {
    const [base, path] = [fresh(), fresh()];
    await qemuImg("create", "-q", "-f", "qcow2", base, "2M");
    await qemuIo(base, "qcow2", ["write -q -P 5 0 2M"]);
    const before = readFileSync(base);
    await qemuImg("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path, "3M");
    const store = await open(path);
    assert.equal((await readAll(store, 2 * MIB - 512, 512))[0], 5);
    assert.equal((await readAll(store, 2 * MIB, 512))[0], 0, "behind the end of the backing file");
    await store.write(512, [new Uint8Array(512).fill(6)]);
    await store.discard(MIB, 64 << 10);
    assert.equal((await readAll(store, MIB, 512))[0], 0);
    await store.close();
    await checked(path);
    await qemuIo(path, "qcow2", ["read -P 5 0 512", "read -P 6 512 512", "read -P 5 1k 1023k", "read -P 0 1M 64k"]);
    assert.equal(Buffer.compare(readFileSync(base), before), 0);
  });

  test("on a backing file that only looks like an image: it may name no file of its own", async () => {
    const [secret, base, path] = [fresh("raw"), fresh(), fresh()];
    writeFileSync(secret, Buffer.alloc(MIB, "secret"));
    await qemuImg("create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", base);
    await createQcow2(path, { sizeBytes: MIB });
    const bytes = readFileSync(path);
    nameBacking(bytes, base);
    writeFileSync(path, bytes);
    await assert.rejects(open(path), /has the backing file .*raw, expected an image that stands alone/);
  });

  test("that is its own backing file is refused", async () => {
    const path = fresh();
    await qemuImg("create", "-q", "-f", "qcow2", path, "1M");
    await qemuImg("rebase", "-u", "-b", path, "-F", "qcow2", path);
    await assert.rejects(open(path, true), /has more than 16 backing files/);
  });

  test("with a snapshot inside, which keeps what it had", async () => {
    const path = fresh();
    await qemuImg("create", "-q", "-f", "qcow2", path, "4M");
    await qemuIo(path, "qcow2", ["write -q -P 1 0 2M"]);
    await qemuImg("snapshot", "-c", "before", path);
    const store = await open(path);
    await store.write(MIB, [new Uint8Array(MIB).fill(2)]);
    await store.discard(0, 64 << 10);
    await store.close();
    await checked(path);
    assert.match(await qemuImg("snapshot", "-l", path), /before/);
    await qemuIo(path, "qcow2", ["read -P 0 0 64k", "read -P 2 1M 1M"]);
    await qemuImg("snapshot", "-a", "before", path);
    await qemuIo(path, "qcow2", ["read -P 1 0 2M"]);
  });

  test("that is encrypted, has its data elsewhere or extended entries is refused", async () => {
    const refused = async (message: RegExp, ...options: string[]) => {
      const path = fresh();
      await qemuImg("create", "-q", "-f", "qcow2", ...options, path, "1M");
      await assert.rejects(open(path), (error) => error instanceof StorageError && message.test(error.message));
    };
    await refused(/keeps its data in another file/, "-o", `data_file=${fresh("raw")}`);
    await refused(/has extended L2 entries/, "-o", "extended_l2=on");
    // qemu-img measures the processor before it makes a LUKS header, and refuses where the clock is too coarse: the header says it by itself.
    const path = fresh();
    await qemuImg("create", "-q", "-f", "qcow2", path, "1M");
    const header = readFileSync(path);
    header.writeUInt32BE(2, 32);
    writeFileSync(path, header);
    await assert.rejects(
      open(path),
      (error) => error instanceof StorageError && /is encrypted \(method 2\)/.test(error.message),
    );
  });
});

/** Gives an image a backing file's name, as its header has it. */
function nameBacking(bytes: Buffer, name: string, lengthBytes = Buffer.byteLength(name)): void {
  bytes.writeBigUInt64BE(120n, 8);
  bytes.writeUInt32BE(lengthBytes, 16);
  bytes.write(name, 120);
}

describe("what is no image, or a damaged one", () => {
  const damaged = async (change: (bytes: Buffer) => unknown): Promise<string> => {
    const path = fresh();
    await createQcow2(path, { sizeBytes: MIB });
    const store = await open(path);
    await store.write(0, [new Uint8Array(512).fill(1)]);
    await store.close();
    const bytes = readFileSync(path);
    const changed = change(bytes);
    writeFileSync(path, changed instanceof Uint8Array ? changed : bytes);
    return path;
  };
  const refused = async (change: (bytes: Buffer) => unknown, message: RegExp) => {
    const path = await damaged(change);
    await assert.rejects(
      open(path),
      (error) => error instanceof StorageError && message.test(error.message),
      String(message),
    );
  };

  test("is refused with a sentence", async () => {
    await refused((b) => b.subarray(0, 10), /is no qcow2 image/);
    await refused((b) => void b.writeUInt32BE(7, 0), /is no qcow2 image/);
    await refused((b) => void b.writeUInt32BE(4, 4), /has version 4 of qcow2, expected 2 or 3/);
    await refused((b) => void b.writeUInt32BE(30, 20), /has clusters of 2\^30 bytes/);
    await refused((b) => void b.writeBigUInt64BE(1n << 60n, 24), /expected less than 2\^53/);
    await refused((b) => void b.writeBigUInt64BE(1n << 40n, 24), /has 1 entries in its L1 table, expected 2048/);
    await refused((b) => void b.writeBigUInt64BE(0x1001n, 40), /has its L1 table at 0x1001, expected a cluster/);
    await refused((b) => void b.writeBigUInt64BE(1n << 40n, 48), /has its refcount table at 0x10000000000/);
    await refused((b) => void b.writeUInt32BE(100000, 56), /has a refcount table of 100000 clusters/);
    await refused((b) => void b.writeUInt32BE(9, 96), /has refcounts of 2\^9 bits/);
    await refused((b) => void b.writeUInt32BE(105, 100), /has a header of 105 bytes/);
    await refused((b) => void b.writeBigUInt64BE(64n, 72), /has incompatible features 0x40/);
    await refused((b) => void b.writeBigUInt64BE(2n, 72), /is marked corrupt/);
    await refused((b) => void b.writeBigUInt64BE(1n, 72), /was not closed by its last user/);
    await refused((b) => nameBacking(b, "x", 5000), /has a backing file's name of 5000 bytes/);
    await refused((b) => nameBacking(b, "nbd://host"), /has the backing file nbd:\/\/host, expected a path/);
    await refused((b) => nameBacking(b, "/none"), /\/none: no such file/);
  });

  test("an image that is its own backing file is refused", () =>
    damaged(() => {}).then(async (path) => {
      const bytes = readFileSync(path);
      nameBacking(bytes, path);
      writeFileSync(path, bytes);
      await assert.rejects(open(path), /has the backing file .*, expected an image that stands alone/);
    }));

  test("entries that point between clusters fail the request, not the process", async () => {
    const path = await damaged((b) => void b.writeBigUInt64BE(0x8000000000000a00n, 3 * 65536));
    const store = await open(path);
    await assert.rejects(readAll(store, 0, 512), /L1 entry 0 is 0xa00, expected a multiple of 65536/);
  });

  test("any change to any bytes of the tables: errors are StorageErrors, and nothing hangs", async () => {
    const base = readFileSync(await damaged(() => {}));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(base.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        async (changes) => {
          const path = fresh();
          const bytes = Buffer.from(base);
          for (const [at, value] of changes) bytes[at % 4 === 0 ? at % 128 : at] = value;
          writeFileSync(path, bytes);
          try {
            const store = await open(path);
            const lengthBytes = Math.min(store.info.sizeBytes, MIB);
            await readAll(store, 0, lengthBytes);
            if (lengthBytes >= 512) await store.write(0, [new Uint8Array(512)]);
            await store.close();
          } catch (error) {
            assert.ok(error instanceof StorageError, String((error as Error).stack));
          }
          rmSync(path);
        },
      ),
      { numRuns: 300 },
    );
  });
});
