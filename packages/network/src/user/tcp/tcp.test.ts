/** TCP as a guest's kernel sees it, segment by segment. The guest's first sequence number is 1000. */
import assert from "node:assert/strict";
import { Socket } from "node:net";
import { afterEach, beforeEach, describe, type TestContext, test } from "node:test";
import { ALL_OFFLOADS, type Frames } from "@xenoserver/devices/net/frames.ts";
import fc from "fast-check";
import { TestGuest } from "../../testing/test-guest.ts";
import { type TestStream, testDial } from "../../testing/test-stream.ts";
import { AddressBlock, parseAddress } from "../../wire/address.ts";
import { parseIp } from "../../wire/ip.ts";
import { seqAdd, seqDistance, synOptions, TcpFlag } from "../../wire/tcp.ts";
import { GATEWAY_MAC } from "../config.ts";
import type { UserContext } from "../context.ts";
import { Egress } from "../egress.ts";
import { TCP_LIMITS, TcpNat } from "./nat.ts";

const { syn: SYN, ack: ACK, fin: FIN, rst: RST, psh: PSH } = TcpFlag;
const ENDS = { to: "192.0.2.1", sourcePort: 40000, destinationPort: 80 };

let guest: TestGuest;
let nat: TcpNat;
let streams: TestStream[];
let rejected: number[];

/** A network that knows TCP only. */
function setUp(limits = TCP_LIMITS): void {
  const own = { gateway: ["10.0.2.2"], dns: ["10.0.2.3"], blocks: [AddressBlock.parse("10.0.2.0/24")!] };
  nat?.close();
  rejected = [];
  const network: Frames = {
    offloads: ALL_OFFLOADS,
    peer: undefined,
    onFrame: ({ bytes }) => {
      nat.onPacket(parseIp(bytes)!);
      return true;
    },
    onRoom: () => nat.onRoom(),
  };
  guest = new TestGuest(network, GATEWAY_MAC);
  const context: UserContext = {
    mac: GATEWAY_MAC,
    mtuBytes: 1500,
    egress: new Egress({ host: true, allow: [], deny: [AddressBlock.parse("198.51.100.0/24")!] }, own, () => new Set()),
    resolvers: () => ["192.0.2.53"],
    offloads: () => guest.offloads,
    send: (frame) => guest.onFrame(frame),
    reject: (_packet, code) => rejected.push(code),
    findMac: async () => guest.mac,
    log: () => {},
  };
  const made = testDial();
  streams = made.streams;
  nat = new TcpNat(context, limits, made.dial);
}

beforeEach(() => setUp());
afterEach(() => nat.close());

interface Opened {
  readonly stream: TestStream;
  /** Our first sequence number behind the SYN. */
  readonly seq: number;
}

/** Opens a connection from the guest; its next sequence number is 1001. */
function open(options: { mss?: number; scale?: number; window?: number; port?: number } = {}): Opened {
  const { mss = 1460, scale, window = 65535, port = ENDS.sourcePort } = options;
  const ends = { ...ENDS, sourcePort: port };
  guest.tcp(ends, { seq: 1000, flags: SYN, options: synOptions(mss, scale) });
  const stream = streams.at(-1)!;
  stream.events.onOpen();
  const [answer] = guest.segments();
  assert.equal(answer.flags, SYN | ACK);
  assert.equal(answer.ack, 1001);
  const seq = seqAdd(answer.seq, 1);
  guest.tcp(ends, { seq: 1001, ack: seq, flags: ACK, window });
  return { stream, seq };
}

/** Lets acknowledgements go out that wait for the end of a batch. */
const batchEnd = (): Promise<void> => new Promise((resolve) => queueMicrotask(() => queueMicrotask(resolve)));

const say = (seq: number, ack: number, text: string, flags: number = ACK | PSH): void =>
  guest.tcp(ENDS, { seq, ack, flags, payload: Buffer.from(text) });

describe("opening", () => {
  test("the guest is answered when the host's side is open, and not before", () => {
    guest.tcp(ENDS, { seq: 1000, flags: SYN, options: synOptions(1460, 7) });
    guest.tcp(ENDS, { seq: 1000, flags: SYN, options: synOptions(1460, 7) });
    assert.deepEqual(
      streams.map(({ host, port }) => [host, port]),
      [["192.0.2.1", 80]],
    );
    assert.deepEqual(guest.segments(), []);
    streams[0].events.onOpen();
    const [{ flags, ack, mss, windowScale }] = guest.segments();
    assert.deepEqual([flags, ack, mss, windowScale], [SYN | ACK, 1001, 1460, 7]);
  });

  test("a guest that does not scale windows is not told a scale", () => {
    guest.tcp(ENDS, { seq: 1000, flags: SYN, options: synOptions(1460, undefined) });
    streams[0].events.onOpen();
    assert.equal(guest.segments()[0].windowScale, undefined);
  });

  test("a refusal of the host's side is the guest's", () => {
    guest.tcp(ENDS, { seq: 1000, flags: SYN });
    streams[0].events.onFailed("ECONNREFUSED");
    const [{ flags, ack }] = guest.segments();
    assert.deepEqual([flags, ack], [RST | ACK, 1001]);
    assert.equal(nat.connections, 0);
  });

  test("what cannot be reached is said so", () => {
    guest.tcp(ENDS, { seq: 1000, flags: SYN });
    streams[0].events.onFailed("EHOSTUNREACH");
    assert.deepEqual([guest.segments(), rejected], [[], [1]]);
  });

  test("what is denied is refused without a word to the world", () => {
    guest.tcp({ ...ENDS, to: "198.51.100.7" }, { seq: 1000, flags: SYN });
    guest.tcp({ ...ENDS, to: "10.0.2.9" }, { seq: 1000, flags: SYN });
    assert.deepEqual(
      guest.segments().map(({ flags, ack }) => [flags, ack]),
      [
        [RST | ACK, 1001],
        [RST | ACK, 1001],
      ],
    );
    assert.deepEqual(streams, []);
  });

  test("the gateway is this host, and the resolver's port is its resolver", () => {
    guest.tcp({ ...ENDS, to: "10.0.2.2" }, { seq: 1, flags: SYN });
    guest.tcp({ ...ENDS, to: "10.0.2.3", destinationPort: 53 }, { seq: 1, flags: SYN });
    assert.deepEqual(
      streams.map(({ host, port }) => `${host} ${port}`),
      ["127.0.0.1 80", "192.0.2.53 53"],
    );
  });

  test("a segment of no connection is reset", () => {
    say(77, 4711, "hello");
    const [{ flags, seq }] = guest.segments();
    assert.deepEqual([flags, seq], [RST, 4711]);
    guest.tcp(ENDS, { seq: 1, flags: RST });
    assert.deepEqual(guest.segments(), []);
  });

  test("more connections than allowed are refused", () => {
    setUp({ ...TCP_LIMITS, connections: 2 });
    open({ port: 1 });
    open({ port: 2 });
    guest.heard();
    guest.tcp({ ...ENDS, sourcePort: 3 }, { seq: 1, flags: SYN });
    assert.equal(guest.segments()[0].flags, RST | ACK);
  });
});

describe("opening from the host's side", () => {
  const TO_HOST = { to: "10.0.2.2", sourcePort: 80, destinationPort: 50000 };
  const end = (address: string): { address: string; bytes: Uint8Array } => ({ address, bytes: parseAddress(address)! });

  /** @returns the SYN's sequence number */
  function accept(): number {
    nat.accept(new Socket(), { mac: guest.mac, ...end(guest.address) }, 80, end("10.0.2.2"), 50000);
    const [{ flags, seq }] = guest.segments();
    assert.equal(flags, SYN);
    return seq;
  }

  test("a guest that still has the last connection of these ports is made to forget it", () => {
    const seq = accept();
    guest.tcp(TO_HOST, { seq: 7000, ack: 4711, flags: ACK });
    assert.deepEqual(
      guest.segments().map((segment) => [segment.flags, segment.seq]),
      [
        [RST, 4711],
        [SYN, seq],
      ],
    );
    guest.tcp(TO_HOST, { seq: 9000, ack: seqAdd(seq, 1), flags: SYN | ACK });
    assert.deepEqual(
      guest.segments().map(({ flags, ack }) => [flags, ack]),
      [[ACK, 9001]],
    );
  });

  test("a guest that never forgets is not answered faster and faster", () => {
    accept();
    for (let n = 0; n < 3; n++) guest.tcp(TO_HOST, { seq: 7000, ack: 4711, flags: SYN | ACK });
    assert.deepEqual(
      guest.segments().map(({ flags }) => flags),
      [RST, SYN, RST, RST],
    );
  });

  test("connections of the same ports begin behind each other, and others elsewhere", (t) => {
    let nowMs = 1000;
    t.mock.method(performance, "now", () => nowMs);
    const first = accept();
    guest.tcp(TO_HOST, { seq: 0, ack: seqAdd(first, 1), flags: RST | ACK });
    assert.equal(nat.connections, 0);
    nowMs += 40;
    const second = accept();
    assert.equal(seqDistance(second, first), 10_000);
    const other = open().seq;
    setUp();
    assert.notEqual(accept(), second, "another network's cannot be told from this one's");
    assert.notEqual(seqAdd(second, 1), other);
  });
});

describe("from the guest to the host", () => {
  test("bytes arrive in order, once, and are acknowledged together", async () => {
    const { stream, seq } = open();
    say(1001, seq, "one ");
    say(1005, seq, "two ");
    say(1001, seq, "one two ");
    say(1005, seq, "two three");
    await batchEnd();
    assert.equal(stream.text, "one two three");
    assert.deepEqual(
      guest.segments().map(({ ack }) => ack),
      [1014],
    );
  });

  test("a hole is not jumped over, and the guest learns of it", async () => {
    const { stream, seq } = open();
    say(1011, seq, "later");
    await batchEnd();
    assert.equal(stream.text, "");
    assert.deepEqual(
      guest.segments().map(({ ack }) => ack),
      [1001],
    );
    say(1001, seq, "0123456789");
    say(1011, seq, "later");
    assert.equal(stream.text, "0123456789later");
  });

  test("a host that does not read shuts the window, and opens it again", async () => {
    const { stream, seq } = open({ scale: 7 });
    stream.isSlow = true;
    let next = 1001;
    for (;;) {
      say(next, seq, "x".repeat(1400));
      await batchEnd();
      const { ack, window } = guest.segments().at(-1)!;
      if (ack < seqAdd(next, 1400)) {
        assert.equal(window, 0);
        break;
      }
      next = ack;
      assert.ok(next < 3 << 20, "the window never shuts");
    }
    assert.ok(stream.queuedBytes <= 1 << 20);
    stream.drain();
    await batchEnd();
    assert.ok(guest.segments()[0].window > 1000);
  });

  test("any segments give the host a prefix of what was sent", () => {
    const text = Array.from({ length: 300 }, (_, n) => String.fromCharCode(33 + (n % 90))).join("");
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: -50, max: 320 }), fc.nat(80)), { maxLength: 40 }), (cuts) => {
        setUp();
        const { stream, seq } = open();
        for (const [from, length] of cuts)
          say(seqAdd(1001, Math.max(0, from)), seq, text.slice(Math.max(0, from), from + length));
        assert.ok(text.startsWith(stream.text));
      }),
      { numRuns: 50 },
    );
  });
});

describe("from the host to the guest", () => {
  test("bytes are cut to the guest's segments, and never beyond its window", () => {
    const { stream, seq } = open({ mss: 500, window: 1200 });
    stream.events.onData(Buffer.from("y".repeat(2000)));
    assert.deepEqual(
      guest.segments().map((s) => [s.seq, s.payload.length]),
      [
        [seq, 500],
        [seqAdd(seq, 500), 500],
      ],
    );
    guest.tcp(ENDS, { seq: 1001, ack: seqAdd(seq, 1000), flags: ACK, window: 1200 });
    assert.deepEqual(
      guest.segments().map((s) => [s.seq, s.payload.length]),
      [
        [seqAdd(seq, 1000), 500],
        [seqAdd(seq, 1500), 500],
      ],
    );
  });

  test("a device that cuts by itself gets one frame for many segments", () => {
    guest.offloads = ALL_OFFLOADS;
    const { stream } = open({ scale: 7, window: 65535 });
    stream.events.onData(new Uint8Array(100_000));
    const sizes = guest.segments().map(({ payload, segmentBytes }) => [payload.length, segmentBytes]);
    assert.deepEqual(sizes, [
      [64240, 1460],
      [35760, 1460],
    ]);
  });

  test("what the device has no room for is sent when it has", () => {
    const { stream } = open();
    guest.hasRoom = false;
    stream.events.onData(Buffer.from("patience"));
    assert.deepEqual(guest.segments(), []);
    guest.hasRoom = true;
    nat.onRoom();
    assert.equal(Buffer.from(guest.segments()[0].payload).toString(), "patience");
  });

  test("a guest that does not read makes the host's side wait", () => {
    const { stream, seq } = open({ window: 0 });
    while (!stream.isPaused) stream.events.onData(new Uint8Array(65536));
    let acked = seq;
    for (let n = 0; stream.isPaused && n < 1000; n++) {
      guest.tcp(ENDS, { seq: 1001, ack: acked, flags: ACK, window: 65535 });
      for (const segment of guest.segments()) acked = seqAdd(segment.seq, segment.payload.length);
    }
    assert.ok(!stream.isPaused);
  });

  test("a host that says much before the guest has answered waits still when it has", () => {
    guest.tcp(ENDS, { seq: 1000, flags: SYN, options: synOptions(1460, undefined) });
    const [stream] = streams;
    stream.events.onOpen();
    const seq = seqAdd(guest.segments()[0].seq, 1);
    while (!stream.isPaused) stream.events.onData(new Uint8Array(65536));
    guest.tcp(ENDS, { seq: 1001, ack: seq, flags: ACK, window: 65535 });
    assert.ok(stream.isPaused);
    let ack = seq;
    for (let n = 0; stream.isPaused && n < 1000; n++) {
      for (const segment of guest.segments()) ack = seqAdd(segment.seq, segment.payload.length);
      guest.tcp(ENDS, { seq: 1001, ack, flags: ACK, window: 65535 });
    }
    assert.ok(!stream.isPaused);
  });

  test("three duplicates bring the missing segment again", () => {
    const { stream, seq } = open();
    stream.events.onData(new Uint8Array(5000));
    guest.heard();
    for (let n = 0; n < 3; n++) guest.tcp(ENDS, { seq: 1001, ack: seq, flags: ACK });
    assert.deepEqual(
      guest.segments().map((s) => [s.seq, s.payload.length]),
      [[seq, 1460]],
    );
  });

  test("an acknowledgement of what was never sent is answered and changes nothing", async () => {
    const { stream, seq } = open();
    stream.events.onData(Buffer.from("abc"));
    guest.heard();
    guest.tcp(ENDS, { seq: 1001, ack: seqAdd(seq, 4), flags: ACK });
    await batchEnd();
    assert.equal(guest.segments()[0].flags, ACK);
    assert.equal(nat.connections, 1);
  });
});

describe("time", () => {
  const mockTime = (t: TestContext): void => t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });

  test("what is not acknowledged is sent again, and after many times the connection is given up", (t) => {
    mockTime(t);
    const { stream, seq } = open();
    stream.events.onData(Buffer.from("hello?"));
    guest.heard();
    t.mock.timers.tick(1000);
    assert.deepEqual(
      guest.segments().map((s) => s.seq),
      [seq],
    );
    t.mock.timers.tick(2000);
    assert.deepEqual(
      guest.segments().map((s) => s.seq),
      [seq],
    );
    for (let n = 0; n < 12; n++) t.mock.timers.tick(30_000);
    assert.equal(guest.segments().at(-1)!.flags & RST, RST);
    assert.ok(stream.wasReset);
  });

  test("after a loss everything arrives, however many frames are lost", (t) => {
    mockTime(t);
    const sent = Uint8Array.from({ length: 40_000 }, (_, n) => n * 7);
    const { stream, seq } = open();
    stream.events.onData(sent);
    const got = new Uint8Array(sent.length);
    let next = 0;
    for (let round = 0; next < sent.length; round++) {
      assert.ok(round < 500, "it never ends");
      // Every third frame is lost, and the guest acknowledges the rest one by one.
      for (const [n, segment] of guest.segments().entries()) {
        const at = (segment.seq - seq) | 0;
        if ((n + round) % 3 === 0 || at > next) continue;
        got.set(segment.payload, at);
        next = Math.max(next, at + segment.payload.length);
        guest.tcp(ENDS, { seq: 1001, ack: seqAdd(seq, next), flags: ACK });
      }
      if (guest.frames.length === 0) t.mock.timers.tick(30_000);
    }
    assert.deepEqual(got, sent);
  });

  test("a shut window is asked about", (t) => {
    mockTime(t);
    const { stream, seq } = open({ window: 0 });
    stream.events.onData(Buffer.from("abc"));
    assert.deepEqual(guest.segments(), []);
    t.mock.timers.tick(1000);
    const [{ payload }] = guest.segments();
    assert.equal(payload.length, 1);
    guest.tcp(ENDS, { seq: 1001, ack: seqAdd(seq, 1), flags: ACK, window: 100 });
    assert.equal(Buffer.from(guest.segments()[0].payload).toString(), "bc");
  });

  test("a guest that does not answer a SYN is given up", (t) => {
    mockTime(t);
    guest.tcp(ENDS, { seq: 1000, flags: SYN });
    streams[0].events.onOpen();
    for (let n = 0; n < 8; n++) t.mock.timers.tick(64_000);
    assert.equal(nat.connections, 0);
    assert.ok(streams[0].wasReset);
  });
});

describe("ending", () => {
  test("the guest ends first, the host still speaks, and then all is over", async () => {
    const { stream, seq } = open();
    say(1001, seq, "bye", ACK | FIN);
    await batchEnd();
    assert.deepEqual([stream.text, stream.ended, guest.segments()[0].ack], ["bye", true, 1005]);
    stream.events.onData(Buffer.from("and"));
    stream.events.onEnd();
    const last = guest.segments();
    assert.deepEqual(
      last.map(({ flags }) => flags & FIN),
      [0, FIN],
    );
    guest.tcp(ENDS, { seq: 1005, ack: seqAdd(seq, 4), flags: ACK });
    assert.equal(nat.connections, 0);
  });

  test("the host ends first, the guest still speaks", async () => {
    const { stream, seq } = open();
    stream.events.onEnd();
    assert.equal(guest.segments()[0].flags, ACK | FIN);
    guest.tcp(ENDS, { seq: 1001, ack: seqAdd(seq, 1), flags: ACK });
    say(1001, seqAdd(seq, 1), "late");
    say(1005, seqAdd(seq, 1), "", ACK | FIN);
    await batchEnd();
    assert.deepEqual([stream.text, stream.ended], ["late", true]);
    assert.equal(nat.connections, 0);
    assert.equal(guest.segments().at(-1)!.ack, 1006);
  });

  test("a connection lasts until the host has taken what the guest sent", () => {
    const { stream, seq } = open();
    stream.isSlow = true;
    say(1001, seq, "slow", ACK | FIN);
    stream.events.onEnd();
    guest.tcp(ENDS, { seq: 1006, ack: seqAdd(seq, 1), flags: ACK });
    assert.equal(nat.connections, 1);
    stream.drain();
    assert.equal(nat.connections, 0);
  });

  test("a reset of one side is one of the other", () => {
    const first = open();
    guest.tcp(ENDS, { seq: 1001, flags: RST });
    assert.ok(first.stream.wasReset);
    const second = open();
    guest.heard();
    second.stream.events.onFailed("ECONNRESET");
    assert.equal(guest.segments()[0].flags & RST, RST);
    assert.equal(nat.connections, 0);
  });

  test("a reset that does not fit is not believed", () => {
    const { stream } = open();
    guest.tcp(ENDS, { seq: 4711, flags: RST });
    assert.ok(!stream.wasReset);
  });
});
