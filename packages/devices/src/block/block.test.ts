import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { GTF_permit_access } from "@xenoserver/xen/abi/grant-table.ts";
import { hasPins } from "@xenoserver/xen/grant/table.ts";
import { XenbusBackend, XenbusState } from "../xenbus/index.ts";
import { FakeGuest, settle } from "../xenbus/testing/fake-guest.ts";
import { BlockDriver, type DiskConfig } from "./driver.ts";
import { BlkifOp, BlkifRsp } from "./protocol.ts";
import { FIRST_DATA_REF, FrontDisk } from "./testing/front-disk.ts";
import { MemoryStore } from "./testing/memory-store.ts";

const DEVID = 51712;
const page = (n: number) => ({ ref: FIRST_DATA_REF + n });

let guest: FakeGuest;
let store: MemoryStore;
let driver: BlockDriver;
let backend: XenbusBackend;
let disk: FrontDisk;

function attach(changes: Partial<DiskConfig> = {}, protocol?: string): void {
  driver = new BlockDriver(guest.host, { store, vdev: "xvda", devid: DEVID, maxQueues: 4, ...changes });
  backend = new XenbusBackend(guest.host, driver, DEVID);
  disk = new FrontDisk(guest, DEVID, protocol);
  backend.start();
}

beforeEach(() => {
  guest = new FakeGuest();
  store = new MemoryStore(1 << 20);
});
afterEach(async () => {
  await backend.stop();
  assert.equal(hasPins(guest.domain.domain), false, "every page was given back");
});

const statuses = async (count: number): Promise<number[]> => (await disk.responses(count)).map(({ status }) => status);

describe("reading and writing", () => {
  for (const protocol of ["x86_64-abi", "x86_32-abi"]) {
    test(`what is written is read again, sector by sector, with ${protocol}`, async () => {
      attach({}, protocol);
      await disk.connect();
      for (let n = 0; n < 4096; n++) disk.data(0)[n] = n * 7;
      const write = disk.transfer(BlkifOp.WRITE, 3, [{ ...page(0), first: 2, last: 5 }]);
      disk.push();
      assert.deepEqual(await disk.responses(1), [{ id: write, operation: BlkifOp.WRITE, status: BlkifRsp.OKAY }]);
      assert.deepEqual(store.bytes.slice(1536, 1536 + 2048), disk.data(0).slice(1024, 3072));
      disk.transfer(BlkifOp.READ, 2, [{ ...page(2), first: 7, last: 7 }, page(1)]);
      disk.push();
      assert.deepEqual(await statuses(1), [BlkifRsp.OKAY]);
      assert.deepEqual(disk.data(1).slice(0, 2048), disk.data(0).slice(1024, 3072));
      assert.deepEqual(
        disk.data(2).slice(0, 3584),
        new Uint8Array(3584),
        "only the named sectors of a page are touched",
      );
    });
  }

  test("pages that are neighbours in memory are one buffer", async () => {
    attach();
    const lengths: number[][] = [];
    const read = store.read.bind(store);
    store.read = (offset, into) => {
      lengths.push(into.map(({ length }) => length));
      return read(offset, into);
    };
    await disk.connect();
    disk.transfer(BlkifOp.READ, 0, [page(0), page(1), page(5), { ...page(6), last: 3 }, page(7)]);
    disk.push();
    await statuses(1);
    assert.deepEqual(lengths, [[8192, 6144, 4096]]);
  });

  test("an indirect request of 256 segments, answered with the operation that it stands for", async () => {
    attach();
    await disk.connect();
    const segments = Array.from({ length: 256 }, (_, n) => page(n));
    for (let n = 0; n < 256; n++) disk.data(n).fill(n);
    const id = disk.indirect(BlkifOp.WRITE, 0, segments, [300]);
    disk.push();
    assert.deepEqual(await disk.responses(1), [{ id, operation: BlkifOp.WRITE, status: BlkifRsp.OKAY }]);
    for (let n = 0; n < 256; n++) assert.equal(store.bytes[n * 4096 + 99], n & 255);
  });

  test("responses come as the disk is done, whatever the order of the requests", async () => {
    attach();
    await disk.connect();
    const release = store.hold();
    const slow = disk.transfer(BlkifOp.READ, 0, [page(0)]);
    disk.push();
    await settle();
    const { flush } = store;
    store.flush = async () => {};
    const quick = disk.flush();
    disk.push();
    assert.deepEqual(
      (await disk.responses(1)).map(({ id }) => id),
      [quick],
    );
    store.flush = flush;
    release();
    assert.deepEqual(
      (await disk.responses(1)).map(({ id }) => id),
      [slow],
    );
  });

  test("four queues of rings of sixteen pages, with more requests than a ring of one holds", async () => {
    attach();
    await disk.connect({ queues: 4, order: 4 });
    assert.equal(disk.backendState, XenbusState.Connected);
    for (let n = 0; n < 400; n++) disk.use(n % 4).transfer(BlkifOp.WRITE, n * 2, [{ ...page(n % 64), last: 1 }]);
    disk.push();
    const done = await disk.responses(400);
    assert.equal(done.length, 400);
    assert.ok(done.every(({ status }) => status === BlkifRsp.OKAY));
    assert.equal(driver.stats.writes, 400);
    assert.equal(driver.stats.writtenBytes, 400 * 1024);
  });
});

describe("grants", () => {
  test("are given back behind each request, also from guests that would let us keep them", async () => {
    attach();
    await disk.connect({ persistent: true });
    assert.equal(guest.read(`${disk.home}/feature-persistent`), "0");
    disk.transfer(BlkifOp.READ, 0, [page(0)]);
    disk.push();
    await statuses(1);
    assert.equal(disk.flagsOf(FIRST_DATA_REF), GTF_permit_access);
  });

  test("of a request are all given back if one of them is none", async () => {
    attach();
    await disk.connect();
    disk.grant(FIRST_DATA_REF + 1, undefined);
    disk.transfer(BlkifOp.WRITE, 0, [page(0), page(1), page(2)]);
    disk.push();
    assert.deepEqual(await statuses(1), [BlkifRsp.ERROR]);
    assert.equal(disk.flagsOf(FIRST_DATA_REF), GTF_permit_access);
    assert.deepEqual(store.calls, []);
  });
});

describe("flush, barrier, discard", () => {
  test("a barrier waits for what was sent before, and what is sent after waits for it", async () => {
    attach();
    await disk.connect();
    const release = store.hold();
    disk.transfer(BlkifOp.WRITE, 0, [page(0)]);
    disk.transfer(BlkifOp.WRITE_BARRIER, 8, [page(1)]);
    disk.transfer(BlkifOp.WRITE, 16, [page(2)]);
    disk.push();
    await settle();
    assert.deepEqual(store.calls, ["write 0 4096"]);
    release();
    assert.deepEqual(await statuses(3), [0, 0, 0]);
    assert.deepEqual(store.calls, ["write 0 4096", "flush", "write 4096 4096", "flush", "write 8192 4096"]);
  });

  test("a barrier without segments is a flush", async () => {
    attach();
    await disk.connect();
    disk.transfer(BlkifOp.WRITE_BARRIER, 0, []);
    disk.push();
    assert.deepEqual(await statuses(1), [0]);
    assert.deepEqual(store.calls, ["flush", "flush"]);
  });

  test("discards reach a store that takes them, and are declined for one that does not", async () => {
    attach();
    await disk.connect();
    assert.equal(guest.read(`${disk.home}/discard-granularity`), "512");
    disk.discard(8, 16);
    disk.discard(2040, 9);
    disk.push();
    assert.deepEqual((await statuses(2)).sort(), [BlkifRsp.ERROR, BlkifRsp.OKAY]);
    assert.deepEqual(store.calls, ["discard 4096 8192"]);
    store.discardGranularityBytes = undefined;
    disk.discard(8, 16);
    disk.push();
    assert.deepEqual(await statuses(1), [BlkifRsp.EOPNOTSUPP]);
  });
});

describe("a disk", () => {
  test("that is read-only says so and refuses writes", async () => {
    store.readOnly = true;
    attach();
    await disk.connect();
    assert.equal(guest.read(`${disk.home}/info`), "4");
    assert.equal(guest.read(`${disk.home}/mode`), "r");
    disk.transfer(BlkifOp.WRITE, 0, [page(0)]);
    disk.transfer(BlkifOp.READ, 0, [page(0)]);
    disk.discard(0, 8);
    disk.push();
    const done = await disk.responses(3);
    const byOperation = new Map(done.map(({ operation, status }) => [operation, status]));
    assert.deepEqual(
      [0, 1, 5].map((op) => byOperation.get(op)),
      [BlkifRsp.OKAY, BlkifRsp.ERROR, BlkifRsp.EOPNOTSUPP],
    );
  });

  test("that fails answers with an error, and works again", async () => {
    attach();
    await disk.connect();
    store.failure = new Error("x.img: byte 0 cannot be read: EIO");
    disk.transfer(BlkifOp.READ, 0, [page(0)]);
    disk.push();
    assert.deepEqual(await statuses(1), [BlkifRsp.ERROR]);
    assert.match(guest.logs[0]!, /^dom7 vbd 51712: request of operation 0: x\.img: byte 0 cannot be read: EIO$/);
    store.failure = undefined;
    disk.transfer(BlkifOp.READ, 0, [page(0)]);
    disk.push();
    assert.deepEqual(await statuses(1), [BlkifRsp.OKAY]);
  });

  test("that has grown is announced, and its new sectors can be used", async () => {
    attach();
    await disk.connect();
    store.sizeBytes = 512 << 10;
    disk.transfer(BlkifOp.READ, 1024, [page(0)]);
    disk.push();
    assert.deepEqual(await statuses(1), [BlkifRsp.ERROR]);
    store.sizeBytes = 1 << 20;
    backend.announce(driver.properties());
    assert.equal(guest.read(`${disk.home}/sectors`), "2048");
    disk.transfer(BlkifOp.READ, 1024, [page(0)]);
    disk.push();
    assert.deepEqual(await statuses(1), [BlkifRsp.OKAY]);
  });

  test("that is paused takes nothing; saved and taken up elsewhere, it goes on where it was", async () => {
    attach();
    await disk.connect();
    disk.transfer(BlkifOp.WRITE, 0, [page(0)]);
    disk.push();
    assert.equal((await disk.responses(1)).length, 1);
    backend.pause();
    disk.transfer(BlkifOp.READ, 0, [page(1)]);
    disk.push();
    await backend.paused();
    assert.deepEqual(store.calls, ["write 0 4096"]);
    const saved = structuredClone(backend.exportState());
    await backend.stop();
    backend = new XenbusBackend(
      guest.host,
      new BlockDriver(guest.host, { store, vdev: "xvda", devid: DEVID, maxQueues: 4 }),
      DEVID,
    );
    backend.importState(saved);
    backend.start();
    assert.deepEqual(await statuses(1), [BlkifRsp.OKAY]);
    assert.deepEqual(store.calls, ["write 0 4096", "read 0 4096"]);
  });
});

test("a guest that is above its rate waits, and is served when its time has come", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  attach({ limits: { requestsPerSecond: 0.001, burstSeconds: 2000 } });
  await disk.connect();
  for (let n = 0; n < 10; n++) disk.transfer(BlkifOp.READ, 0, [page(0)]);
  disk.push();
  await settle();
  assert.equal(driver.stats.reads, 3, "two were saved up, one is on credit");
  assert.equal((await disk.responses(3)).length, 3);
  await backend.stop();
});
