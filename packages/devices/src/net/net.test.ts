/** The backend of a network interface, as a guest's driver meets it, well-behaved or not. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { XenbusBackend, XenbusState } from "../xenbus/index.ts";
import { FakeGuest, settle } from "../xenbus/testing/fake-guest.ts";
import { type Frame, type Frames, NO_OFFLOADS, plug } from "./frames.ts";
import { ExtraType, NetifStatus, RxFlag, TxFlag } from "./protocol.ts";
import { FIRST_DATA_REF, FrontVif, RX_PAGES } from "./testing/front-vif.ts";
import { type VifConfig, VifDriver } from "./vif.ts";

const { OKAY, ERROR, NULL } = NetifStatus;

/** The other end of the cable. */
class Network implements Frames {
  readonly offloads = NO_OFFLOADS;
  peer: Frames | undefined;
  readonly got: Frame[] = [];
  hasRoom = true;
  told = 0;

  onFrame(frame: Frame): boolean {
    if (this.hasRoom) this.got.push(frame);
    return this.hasRoom;
  }

  onRoom(): void {
    this.told++;
  }
}

let guest: FakeGuest;
let network: Network;
let driver: VifDriver;
let backend: XenbusBackend;
let front: FrontVif;

function setUp(changes: Partial<VifConfig> = {}): void {
  guest = new FakeGuest();
  network = new Network();
  const log = guest.host.log;
  driver = new VifDriver(guest.host, { devid: 0, mac: "00:16:3e:00:00:01", maxQueues: 4, log, ...changes });
  plug(driver.port, network);
  backend = new XenbusBackend(guest.host, driver, 0);
  front = new FrontVif(guest, 0);
  backend.start();
}

beforeEach(() => setUp());

const { Connected, Closing } = XenbusState;
const receive = (frame: Partial<Frame> & { bytes: Uint8Array }): boolean =>
  driver.port.onFrame({ checksum: "full", segmentBytes: 0, ...frame });
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, n) => n * 31 + (n >>> 8));

describe("the handshake", () => {
  test("the guest finds its address and what the backend can do", async () => {
    await settle();
    assert.equal(guest.read(`${front.frontend}/mac`), "00:16:3e:00:00:01");
    assert.equal(guest.read(`${front.home}/feature-gso-tcpv4`), "1");
    assert.equal(guest.read(`${front.home}/multi-queue-max-queues`), "4");
    await front.connect();
    assert.equal(front.backendState, Connected);
    assert.equal(driver.port.offloads.segmentsIpv4, true);
  });

  const broken: [string, Record<string, string | number>][] = [
    ["no copying", { "request-rx-copy": 0 }],
    ["too many queues", { "multi-queue-num-queues": 5 }],
    ["no queue", { "multi-queue-num-queues": 0 }],
    ["a grant that is none", { "tx-ring-ref": 4000 }],
    ["a port that is none", { "event-channel": 4000 }],
    ["no number", { "rx-ring-ref": "x" }],
  ];
  for (const [what, keys] of broken) {
    test(`${what}: the device is closed and says why`, async () => {
      await front.connect({ keys });
      assert.equal(front.backendState, Closing);
      assert.match(guest.read(`${front.home}/error`), /^dom7 vif 0: /);
    });
  }

  test("a guest without scattering gets no large frames", async () => {
    await front.connect({ keys: { "feature-sg": 0 } });
    assert.equal(driver.port.offloads.segmentsIpv4, false);
  });
});

describe("from the guest", () => {
  beforeEach(() => front.connect());

  test("a packet of one slot", () => {
    front.data(0).set(pattern(200), 50);
    front.txSlot({ offset: 50, size: 200, id: 9, flags: TxFlag.csum_blank });
    front.push();
    assert.deepEqual(front.txResponses(), [[9, OKAY]]);
    const [{ bytes, checksum, segmentBytes }] = network.got;
    assert.deepEqual([Uint8Array.from(bytes), checksum, segmentBytes], [pattern(200), "blank", 0]);
    front.data(0).fill(0);
    assert.deepEqual(Uint8Array.from(network.got[0].bytes), pattern(200), "the frame is not the guest's any more");
  });

  test("a large packet with its segments' size", () => {
    const whole = pattern(9000);
    for (let n = 0; n < 3; n++) front.data(n).set(whole.subarray(n * 4000, n * 4000 + 4000), 10);
    const flags = TxFlag.csum_blank | TxFlag.extra_info | TxFlag.more_data;
    front.txSlot({ offset: 10, size: 9000, id: 1, flags });
    front.extra(ExtraType.GSO, [0xb4, 0x05, 1]);
    front.txSlot({ gref: FIRST_DATA_REF + 1, offset: 10, size: 4000, id: 2, flags: TxFlag.more_data });
    front.txSlot({ gref: FIRST_DATA_REF + 2, offset: 10, size: 1000, id: 3 });
    front.push();
    assert.deepEqual(front.txResponses(), [
      [1, OKAY],
      [0, NULL],
      [2, OKAY],
      [3, OKAY],
    ]);
    assert.equal(network.got[0].segmentBytes, 1460);
    assert.deepEqual(Uint8Array.from(network.got[0].bytes), whole);
  });

  const refused: [string, () => void][] = [
    ["a grant that is none", () => front.txSlot({ gref: 77, size: 100 })],
    ["a grant of a page that is none", () => front.grant(FIRST_DATA_REF, 0xfffff)],
    ["a slot beyond its page", () => front.txSlot({ offset: 4000, size: 97 })],
    ["less than a header", () => front.txSlot({ size: 13 })],
  ];
  for (const [what, put] of refused) {
    test(`${what}: an error for that packet, and the next one goes through`, () => {
      put();
      if (what.includes("page that is none")) front.txSlot({ size: 100 });
      front.txSlot({ gref: FIRST_DATA_REF + 1, size: 60, id: 5 });
      front.push();
      assert.deepEqual(front.txResponses(), [
        [0, ERROR],
        [5, OKAY],
      ]);
      assert.equal(network.got.length, 1);
      assert.equal(front.backendState, Connected);
      assert.equal(driver.counts.txErrors, 1);
    });
  }

  test("slots that are longer than their packet", () => {
    front.txSlot({ size: 100, flags: TxFlag.more_data });
    front.txSlot({ size: 101 });
    front.push();
    assert.deepEqual(
      front.txResponses().map(([, status]) => status),
      [ERROR, ERROR],
    );
  });

  test("segments of no size, or of no known kind", () => {
    for (const body of [
      [0, 0, 1],
      [0xb4, 5, 3],
    ]) {
      front.txSlot({ size: 100, flags: TxFlag.extra_info });
      front.extra(ExtraType.GSO, body);
      front.push();
      assert.deepEqual(
        front.txResponses().map(([, status]) => status),
        [ERROR, NULL],
      );
    }
  });

  const fatal: [string, () => void][] = [
    ["a packet without its end", () => front.txSlot({ size: 100, flags: TxFlag.more_data })],
    ["a packet without its extra slot", () => front.txSlot({ size: 100, flags: TxFlag.extra_info })],
    [
      "a packet without an end",
      () => Array.from({ length: 30 }, () => front.txSlot({ size: 9, flags: TxFlag.more_data })),
    ],
    [
      "an extra slot of no known type",
      () => {
        front.txSlot({ size: 100, flags: TxFlag.extra_info });
        front.extra(9, []);
      },
    ],
  ];
  for (const [what, put] of fatal) {
    test(`${what}: the device is closed, and may be opened again`, async () => {
      put();
      front.push();
      await settle();
      assert.equal(front.backendState, Closing);
      guest.show(front.frontend, XenbusState.Closed);
      await settle();
      guest.show(front.frontend, XenbusState.Initialising);
      await front.connect();
      assert.equal(front.backendState, Connected);
    });
  }

  test("an index without sense: the device is closed", async () => {
    front.tx[0]!.header[0] = 5000;
    front.notify();
    await settle();
    assert.equal(front.backendState, Closing);
  });

  test("a network without room makes the guest wait, and no packet is lost", () => {
    network.hasRoom = false;
    for (let id = 0; id < 3; id++) front.txSlot({ size: 60, id });
    front.push();
    assert.equal(front.txResponses().length, 1);
    network.hasRoom = true;
    driver.port.onRoom();
    assert.equal(front.txResponses().length, 2);
    assert.equal(network.got.length, 3);
  });

  test("a paused device takes nothing until it is resumed", async () => {
    backend.pause();
    await backend.paused();
    front.txSlot({ size: 60 });
    front.push();
    assert.equal(network.got.length, 0);
    backend.resume();
    assert.equal(network.got.length, 1);
  });
});

describe("to the guest", () => {
  beforeEach(() => front.connect());

  test("a frame goes into a lent page, and the guest is told of its checksum", () => {
    front.lend(2);
    receive({ bytes: pattern(300), checksum: "verified" });
    const [slot] = front.rxSlots();
    assert.deepEqual(
      [slot.getUint16(0, true), slot.getUint16(4, true), slot.getInt16(6, true)],
      [0, RxFlag.data_validated, 300],
    );
    assert.deepEqual(front.data(RX_PAGES).slice(0, 300), pattern(300));
  });

  test("a large frame takes several, and one for its segments' size", () => {
    front.lend(4);
    receive({ bytes: pattern(9000), checksum: "blank", segmentBytes: 1460 });
    const slots = front.rxSlots();
    const checked = RxFlag.csum_blank | RxFlag.data_validated;
    assert.deepEqual(
      [0, 2, 3].map((n) => [slots[n].getUint16(0, true), slots[n].getUint16(4, true), slots[n].getInt16(6, true)]),
      [
        [0, checked | RxFlag.extra_info | RxFlag.more_data, 4096],
        [2, RxFlag.more_data, 4096],
        [3, 0, 808],
      ],
    );
    assert.deepEqual(
      [slots[1].getUint8(0), slots[1].getUint16(2, true), slots[1].getUint8(4)],
      [ExtraType.GSO, 1460, 1],
    );
    const parts = [0, 2, 3].map((n) => front.data(RX_PAGES + n));
    assert.deepEqual(Uint8Array.from(Buffer.concat(parts).subarray(0, 9000)), pattern(9000));
  });

  test("frames wait until enough pages are lent, in order", () => {
    front.lend(2);
    receive({ bytes: pattern(9000), checksum: "blank", segmentBytes: 1460 });
    receive({ bytes: pattern(60) });
    assert.deepEqual(front.rxSlots(), []);
    front.lend(1);
    assert.deepEqual(front.rxSlots(), []);
    front.lend(2);
    assert.equal(front.rxSlots().length, 5);
  });

  test("more than may wait is refused, and the network is told of room", () => {
    let taken = 0;
    while (receive({ bytes: pattern(60) })) taken++;
    assert.ok(taken >= 256 && taken <= 1024, `${taken}`);
    const told = network.told;
    front.lend(100);
    assert.equal(network.told, told + 1);
    assert.ok(receive({ bytes: pattern(60) }));
  });

  test("a page that cannot be written to is an error for that frame only", () => {
    front.grant(FIRST_DATA_REF + RX_PAGES, undefined);
    front.lend(2);
    receive({ bytes: pattern(60) });
    receive({ bytes: pattern(60) });
    assert.deepEqual(
      front.rxSlots().map((slot) => slot.getInt16(6, true)),
      [ERROR, 60],
    );
  });

  test("without a connected guest nothing is taken", () => {
    setUp();
    assert.equal(receive({ bytes: pattern(60) }), false);
  });
});

test("groups that the guest did not join are kept from it, if it asked for that", async () => {
  await front.connect({ keys: { "request-multicast-control": 1 } });
  front.lend(8);
  const to = (mac: number[]): Uint8Array => Uint8Array.from([...mac, ...new Array<number>(54).fill(0)]);
  const group = [1, 0, 0x5e, 0, 0, 1];
  receive({ bytes: to(group) });
  receive({ bytes: to([255, 255, 255, 255, 255, 255]) });
  assert.equal(front.rxSlots().length, 1);
  front.txSlot({ size: 0, flags: TxFlag.extra_info });
  front.extra(ExtraType.MCAST_ADD, group);
  front.push();
  assert.deepEqual(
    front.txResponses().map(([, status]) => status),
    [OKAY, NULL],
  );
  receive({ bytes: to(group) });
  assert.equal(front.rxSlots().length, 1);
  front.txSlot({ size: 0, flags: TxFlag.extra_info });
  front.extra(ExtraType.MCAST_DEL, group);
  front.push();
  receive({ bytes: to(group) });
  assert.equal(front.rxSlots().length, 0);
});

test("several queues", async () => {
  await front.connect({ queues: 3 });
  for (let queue = 0; queue < 3; queue++) {
    front.txSlot({ size: 60, id: queue }, queue);
    front.push(queue);
    assert.deepEqual(front.txResponses(queue), [[queue, OKAY]]);
    front.lend(16, queue);
  }
  assert.equal(network.got.length, 3);
  for (let port = 0; port < 16; port++) {
    const bytes = pattern(60);
    bytes.set([8, 0], 12);
    bytes[37] = port;
    receive({ bytes });
  }
  const counts = [0, 1, 2].map((queue) => front.rxSlots(queue).length);
  assert.equal(
    counts.reduce((a, b) => a + b),
    16,
  );
  assert.ok(counts.filter((count) => count > 0).length > 1, "one flow after another, but not all on one queue");
});

test("a limited guest sends no more than its rate, and all of it in the end", async () => {
  setUp({ rate: { bytesPerWindow: 1000, windowMs: 5 } });
  await front.connect();
  for (let id = 0; id < 20; id++) front.txSlot({ size: 500, id });
  front.push();
  assert.ok(network.got.length < 20, `${network.got.length} packets at once`);
  while (network.got.length < 20) await new Promise((resolve) => setTimeout(resolve, 5));
  await backend.stop();
});

test("a saved interface goes on where it stopped", async () => {
  await front.connect();
  front.txSlot({ size: 60, id: 1 });
  front.push();
  front.txResponses();
  backend.pause();
  await backend.paused();
  const saved = backend.exportState();
  await backend.stop();
  // The stopped backend let go of the port; where a domain is restored, it is as it was.
  const driver2 = new VifDriver(guest.host, { devid: 0, mac: "00:16:3e:00:00:01", maxQueues: 4 });
  plug(driver2.port, network);
  const resumed = new XenbusBackend(guest.host, driver2, 0);
  resumed.importState(structuredClone(saved));
  resumed.start();
  front.txSlot({ size: 60, id: 2 });
  front.push();
  front.notify();
  assert.deepEqual(front.txResponses(), [[2, OKAY]]);
});

test("any slots close the device or are answered, and never throw", async () => {
  const slot = fc.record({
    gref: fc.oneof(fc.integer({ min: FIRST_DATA_REF, max: FIRST_DATA_REF + 8 }), fc.nat(0xffffffff)),
    offset: fc.oneof(fc.nat(4096), fc.nat(0xffff)),
    flags: fc.oneof(fc.nat(15), fc.nat(0xffff)),
    id: fc.nat(0xffff),
    size: fc.oneof(fc.nat(2000), fc.nat(0xffff)),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(slot, { maxLength: 60 }), async (slots) => {
      setUp();
      await front.connect();
      for (const one of slots) front.txSlot(one);
      front.push();
      await settle();
      const answered = front.txResponses().length;
      assert.ok(front.backendState === Closing ? answered <= slots.length : answered === slots.length);
      await backend.stop();
    }),
    { numRuns: 150 },
  );
});
