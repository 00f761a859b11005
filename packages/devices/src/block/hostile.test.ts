/** Guests that do what no driver does: their disk is closed or the request refused, and others' disks do not notice. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { Gfn } from "@xenoserver/cpu";
import { depopulate } from "@xenoserver/xen/domain/physmap.ts";
import { hasPins } from "@xenoserver/xen/grant/table.ts";
import fc from "fast-check";
import { XenbusBackend, XenbusState } from "../xenbus/index.ts";
import { FakeGuest, settle } from "../xenbus/testing/fake-guest.ts";
import { BlockDriver } from "./driver.ts";
import { BlkifOp, BlkifRsp } from "./protocol.ts";
import { FIRST_DATA_REF, FrontDisk } from "./testing/front-disk.ts";
import { MemoryStore } from "./testing/memory-store.ts";

const SIZE = 256 << 10;
const DATA_GFN = 0x400;
const page = (n: number, first = 0, last = 7) => ({ ref: FIRST_DATA_REF + n, first, last });

interface Attached {
  readonly store: MemoryStore;
  readonly backend: XenbusBackend;
  readonly disk: FrontDisk;
}

let guest: FakeGuest;
let all: Attached[];

function attach(devid: number): Attached {
  const store = new MemoryStore(SIZE);
  const driver = new BlockDriver(guest.host, { store, vdev: "xvda", devid, maxQueues: 4 });
  const backend = new XenbusBackend(guest.host, driver, devid);
  const attached = { store, backend, disk: new FrontDisk(guest, devid) };
  all.push(attached);
  backend.start();
  return attached;
}

beforeEach(() => {
  guest = new FakeGuest();
  all = [];
});
afterEach(async () => {
  for (const { backend } of all) await backend.stop();
  assert.equal(hasPins(guest.domain.domain), false, "every page was given back");
});

async function works({ disk }: Attached): Promise<void> {
  disk.transfer(BlkifOp.READ, 0, [page(200)]);
  disk.push();
  assert.deepEqual(
    (await disk.responses(1)).map(({ status }) => status),
    [BlkifRsp.OKAY],
  );
}

async function refused(
  attached: Attached,
  put: (disk: FrontDisk) => void,
  status: number = BlkifRsp.ERROR,
): Promise<void> {
  put(attached.disk);
  attached.disk.push();
  const responses = await attached.disk.responses(1);
  assert.deepEqual(
    responses.map((response) => response.status),
    [status],
  );
  await works(attached);
}

describe("a request", () => {
  let attached: Attached;
  beforeEach(async () => {
    attached = attach(51712);
    await attached.disk.connect();
  });

  test("of no operation that there is", () =>
    refused(attached, (disk) => disk.transfer(77, 0, [page(0)]), BlkifRsp.EOPNOTSUPP));

  test("with no segments, or too many", async () => {
    await refused(attached, (disk) => disk.transfer(BlkifOp.READ, 0, []));
    await refused(attached, (disk) => disk.transfer(BlkifOp.READ, 0, [page(0)], 12));
    await refused(attached, (disk) => disk.indirect(BlkifOp.READ, 0, [], [0], 0));
    await refused(attached, (disk) => disk.indirect(BlkifOp.READ, 0, [], [0], 257));
    await refused(attached, (disk) => disk.indirect(BlkifOp.READ, 0, [], [0], 65535));
    await refused(attached, (disk) => disk.indirect(BlkifOp.FLUSH_DISKCACHE, 0, [page(1)], [0]));
    await refused(attached, (disk) => disk.indirect(BlkifOp.INDIRECT, 0, [page(1)], [0]));
  });

  test("with segments that end before they begin, or outside of their page", async () => {
    await refused(attached, (disk) => disk.transfer(BlkifOp.WRITE, 0, [page(0, 5, 4)]));
    await refused(attached, (disk) => disk.transfer(BlkifOp.WRITE, 0, [page(0, 0, 8)]));
    await refused(attached, (disk) => disk.indirect(BlkifOp.WRITE, 0, [page(1), page(2, 255, 255)], [0]));
    assert.deepEqual(
      attached.store.calls.filter((call) => call.startsWith("write")),
      [],
    );
  });

  test("beyond the end of the disk", async () => {
    await refused(attached, (disk) => disk.transfer(BlkifOp.READ, SIZE / 512 - 7, [page(0)]));
    await refused(attached, (disk) => disk.transfer(BlkifOp.WRITE, 2 ** 52, [page(0)]));
    await refused(attached, (disk) => disk.transfer(BlkifOp.WRITE, 2 ** 63, [page(0)]));
    await refused(attached, (disk) => disk.discard(1, 2 ** 63));
    await refused(attached, (disk) => disk.discard(2 ** 63, 1));
  });

  test("with grants of nothing, of missing frames, to others, or for reading where we write", async () => {
    const { disk } = attached;
    await refused(attached, () => disk.transfer(BlkifOp.READ, 0, [page(0), { ref: 0xffffffff }]));
    await refused(attached, () => disk.transfer(BlkifOp.READ, 0, [{ ref: 1023 }]));
    disk.grant(900, 0xfffff);
    await refused(attached, () => disk.transfer(BlkifOp.READ, 0, [{ ref: 900 }]));
    disk.grant(901, 0x500, true);
    await refused(attached, () => disk.transfer(BlkifOp.READ, 0, [{ ref: 901 }]));
    await refused(attached, () => disk.indirect(BlkifOp.READ, 0, [page(0), page(1), { ref: 1022 }], [5]));
  });

  test("that names one page over and over, its own list of segments, or the ring", async () => {
    const { disk, store } = attached;
    store.bytes.fill(0xa5);
    disk.indirect(
      BlkifOp.READ,
      0,
      Array.from({ length: 64 }, () => page(3)),
      [3],
    );
    disk.push();
    assert.equal((await disk.responses(1))[0]?.status, BlkifRsp.OKAY);
    // The ring's page is overwritten by the guest's own read: req_prod becomes nonsense, and the disk is closed.
    disk.transfer(BlkifOp.READ, 0, [{ ref: 8 }]);
    disk.push();
    await settle();
    disk.notify(0);
    for (let n = 0; n < 5; n++) await settle();
    assert.equal(disk.backendState, XenbusState.Closing);
  });
});

test("grants that are revoked, and frames that are given back, while they are in use", async () => {
  const attached = attach(51712);
  const { disk, store } = attached;
  await disk.connect();
  const release = store.hold();
  disk.transfer(BlkifOp.READ, 0, [page(0), page(1)]);
  disk.transfer(BlkifOp.WRITE, 0, [page(2)]);
  disk.push();
  await settle();
  for (let n = 0; n < 3; n++) {
    disk.grant(FIRST_DATA_REF + n, undefined);
    depopulate(guest.domain.domain, (DATA_GFN + n) as Gfn);
  }
  release();
  assert.equal((await disk.responses(2)).length, 2);
  await works(attached);
});

describe("rings", () => {
  test("an index out of range closes this disk and no other; a new handshake opens it again", async () => {
    const [bad, good] = [attach(51712), attach(51728)];
    await bad.disk.connect();
    // Both drivers lay their rings out in the same pages; the second is given others.
    await works(bad);
    bad.disk.rings[0]!.header[0] = 1_000_000;
    bad.disk.notify(0);
    await settle();
    assert.equal(bad.disk.backendState, XenbusState.Closing);
    assert.match(guest.logs.at(-1)!, /^dom7 vbd 51712: req_prod is 1000000, expected \d+ to \d+$/);
    await good.disk.connect();
    await works(good);
    guest.show(bad.disk.frontend, XenbusState.Closed);
    await settle();
    assert.equal(bad.disk.backendState, XenbusState.Closed);
    await works(good);
  });

  test("one of several queues that breaks closes the disk, with requests of others in flight", async () => {
    const attached = attach(51712);
    const { disk, store } = attached;
    await disk.connect({ queues: 3 });
    const release = store.hold();
    disk.use(1).transfer(BlkifOp.READ, 0, [page(0)]);
    disk.push();
    await settle();
    disk.rings[2]!.header[0] = -5;
    disk.notify(2);
    await settle();
    assert.equal(disk.backendState, XenbusState.Connected, "waits for what is in flight");
    release();
    await settle();
    await settle();
    assert.equal(disk.backendState, XenbusState.Closing);
    guest.show(disk.frontend, XenbusState.Closed);
    await settle();
    guest.show(disk.frontend, XenbusState.Initialising);
    for (const key of ["multi-queue-num-queues", "queue-0", "queue-1", "queue-2"])
      guest.remove(`${disk.frontend}/${key}`);
    await disk.connect();
    await works(attached);
  });

  for (const [what, keys, message] of [
    ["a queue count out of range", { "multi-queue-num-queues": "5" }, /multi-queue-num-queues is "5", expected 1 to 4/],
    ["a ring too long", { "ring-page-order": "5" }, /ring-page-order is "5", expected 0 to 4/],
    [
      "a ring that is not granted",
      { "ring-ref": "1021" },
      /ring: grant 1021 cannot be mapped for writing: general_error/,
    ],
    ["a ring without a reference", { "ring-ref": "" }, /ring-ref is "", expected 0 to 4294967295/],
    [
      "a port that is not for us",
      { "event-channel": "999" },
      /event-channel is 999, expected an unbound port for domain 0/,
    ],
    ["a port that is none", { "event-channel": "-1" }, /event-channel is "-1", expected 0 to/],
    ["an ABI of another machine", { protocol: "arm-abi" }, /protocol is "arm-abi", expected x86_64-abi or x86_32-abi/],
    ["an ABI that is a property of objects", { protocol: "toString" }, /protocol is "toString"/],
  ] as const) {
    test(`${what}: the disk is closed with a sentence`, async () => {
      const { disk } = attach(51712);
      await disk.connect();
      guest.show(disk.frontend, XenbusState.Closed);
      await settle();
      guest.show(disk.frontend, XenbusState.Initialising);
      await settle();
      for (const [key, value] of Object.entries(keys)) guest.write(`${disk.frontend}/${key}`, value);
      guest.show(disk.frontend, XenbusState.Initialised);
      await settle();
      assert.equal(disk.backendState, XenbusState.Closing);
      assert.match(guest.logs.at(-1)!, message);
    });
  }
});

test("any bytes in the ring: each entry is answered, nothing outside of the disk is touched, no page is kept", async () => {
  const attached = attach(51712);
  const { disk, store } = attached;
  await disk.connect();
  store.read = async (offset, into) => {
    assert.ok(offset >= 0 && offset + into.reduce((sum, { length }) => sum + length, 0) <= SIZE);
  };
  store.write = store.read;
  store.discard = async (offset, lengthBytes) => assert.ok(offset >= 0 && offset + lengthBytes <= SIZE);
  const byte = fc.oneof(fc.constantFrom(0, 1, 2, 3, 5, 6, 7, 11, 100, 255), fc.nat(255));
  const entry = fc.tuple(fc.integer({ min: 0, max: 7 }), fc.array(byte, { minLength: 111, maxLength: 111 }));
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { minLength: 1, maxLength: 8 }), async (entries) => {
      for (const [operation, rest] of entries) disk.raw(Uint8Array.from([operation, ...rest]));
      disk.push();
      assert.equal((await disk.responses(entries.length)).length, entries.length);
    }),
    { numRuns: 300 },
  );
  assert.ok(guest.logs.length < 20, "mistakes do not fill the log");
  await works({ ...attached });
});
