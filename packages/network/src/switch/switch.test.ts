import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import {
  ALL_OFFLOADS,
  type Frame,
  type Frames,
  NO_OFFLOADS,
  type Offloads,
  plug,
  unplug,
} from "@xenoserver/devices/net/frames.ts";
import fc from "fast-check";
import { BROADCAST, putMac } from "../wire/ethernet.ts";
import { FrameStream } from "./frame-stream.ts";
import { EthernetSwitch } from "./switch.ts";
import { joinSwitch, serveSwitch } from "./unix-socket.ts";

/** A station that keeps what it hears. */
class Station implements Frames {
  offloads: Offloads = ALL_OFFLOADS;
  peer: Frames | undefined;
  heard: string[] = [];
  frames: Frame[] = [];
  hasRoom = true;

  constructor(end?: Frames) {
    if (end !== undefined) plug(this, end);
  }

  onFrame(frame: Frame): boolean {
    if (!this.hasRoom) return false;
    this.frames.push(frame);
    this.heard.push(Buffer.from(frame.bytes.subarray(14)).toString());
    return true;
  }

  onRoom(): void {}

  say(from: number, to: number, text: string, more: Partial<Frame> = {}): boolean {
    const bytes = new Uint8Array(14 + text.length);
    putMac(bytes, 0, to);
    putMac(bytes, 6, from);
    bytes.set([0x88, 0xb5], 12);
    bytes.set(Buffer.from(text), 14);
    return this.peer!.onFrame({ bytes, checksum: "full", segmentBytes: 0, ...more });
  }
}

const A = 0x00163e00000a;
const B = 0x00163e00000b;
const C = 0x00163e00000c;

describe("a switch", () => {
  let bridge: EthernetSwitch;
  let stations: Station[];
  beforeEach(() => {
    bridge = new EthernetSwitch({ ports: 3, stationsPerPort: 2, forgetMs: 60_000 });
    stations = [0, 1, 2].map(() => new Station(bridge.addPort()));
  });
  const heard = () => stations.map((station) => station.heard.splice(0).join(" "));

  test("floods what it does not know, and then knows", () => {
    const [a, b] = stations;
    a.say(A, B, "where are you");
    assert.deepEqual(heard(), ["", "where are you", "where are you"]);
    b.say(B, A, "here");
    assert.deepEqual(heard(), ["here", "", ""]);
    a.say(A, B, "hello");
    assert.deepEqual(heard(), ["", "hello", ""]);
    a.say(A, BROADCAST, "all");
    assert.deepEqual(heard(), ["", "all", "all"]);
  });

  test("a station that moves is found where it is", () => {
    const [a, b, c] = stations;
    b.say(B, A, "at b");
    c.say(B, A, "at c");
    heard();
    a.say(A, B, "found");
    assert.deepEqual(heard(), ["", "", "found"]);
  });

  test("remembers so many stations of one port, and others' not less for it", () => {
    const [a, b] = stations;
    b.say(B, A, "b");
    for (let n = 0; n < 1000; n++) a.say(A + 0x1000 + n, B, "x");
    assert.equal(bridge.stations, 3);
    heard();
    stations[2].say(C, B, "still known");
    assert.deepEqual(heard(), ["", "still known", ""]);
  });

  test("groups of the link end here, and sources that are none are not learned", () => {
    const [a] = stations;
    a.say(A, 0x0180c2000000, "spanning tree");
    assert.deepEqual(heard(), ["", "", ""]);
    a.say(BROADCAST, B, "who");
    assert.equal(bridge.stations, 1);
  });

  test("a pulled cable is forgotten, and its port free", () => {
    assert.throws(() => bridge.addPort(), /has 3 ports/);
    stations[1].say(B, A, "b");
    unplug(stations[1]);
    assert.deepEqual([bridge.ports, bridge.stations], [2, 0]);
    bridge.addPort();
  });

  test("a port without room loses frames, and the others do not", () => {
    stations[1].hasRoom = false;
    assert.equal(stations[0].say(A, BROADCAST, "all"), true);
    assert.deepEqual(heard(), ["", "", "all"]);
  });
});

describe("a cable between processes", () => {
  const folder = mkdtempSync(join(tmpdir(), "xeno-switch-"));
  const path = join(folder, "s");
  let stop: () => void;
  let bridge: EthernetSwitch;
  const logs: string[] = [];
  beforeEach(async () => {
    bridge = new EthernetSwitch();
    stop = await serveSwitch(bridge, path, (message) => logs.push(message));
  });
  afterEach(() => {
    stop();
    bridge.close();
    logs.length = 0;
    rmSync(path, { force: true });
  });
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));

  const until = async (look: () => boolean): Promise<void> => {
    while (!look()) await new Promise((resolve) => setTimeout(resolve, 2));
  };

  test("frames arrive whole, in order, with what is left to do of them", async () => {
    const [one, two] = [new Station(await joinSwitch(path, () => {})), new Station(await joinSwitch(path, () => {}))];
    await until(() => bridge.ports === 2);
    const texts = Array.from({ length: 300 }, (_, n) => `${n} ${"x".repeat((n * 97) % 3000)}`);
    for (const text of texts) one.say(A, B, text, { checksum: "verified" });
    await until(() => two.heard.length === texts.length);
    assert.deepEqual(two.heard, texts);
    assert.equal(two.frames[0].checksum, "verified");
    unplug(one);
    unplug(two);
    await until(() => bridge.ports === 0);
  });

  test("a receiver without room holds the sender back, and loses nothing", async () => {
    const one = new Station(await joinSwitch(path, () => {}));
    const two = new Station(await joinSwitch(path, () => {}));
    await until(() => bridge.ports === 2);
    two.hasRoom = false;
    for (let n = 0; n < 50; n++) one.say(A, B, `${n}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    two.hasRoom = true;
    two.peer!.onRoom();
    await until(() => two.heard.length === 50);
    assert.equal(two.heard.join(), Array.from({ length: 50 }, (_, n) => n).join());
  });

  test("what is no hello, or no frame, is hung up on", async () => {
    const gone = async (bytes: Uint8Array): Promise<void> => {
      const socket = connect(path);
      socket.on("error", () => {});
      socket.write(bytes);
      socket.resume();
      await new Promise((resolve) => socket.once("close", resolve));
    };
    await gone(Buffer.from("GET / HTTP/1.1\r\n"));
    assert.match(logs.join(), /no switch of this version/);
    await gone(Buffer.concat([Buffer.from("xenosw01"), Buffer.from("ffffffff00000000", "hex")]));
    await until(() => logs.some((line) => /4294967295 bytes is announced/.test(line)));
    assert.equal(bridge.ports, 0);
  });

  test("joining nobody, or something else, fails with a reason", async () => {
    await assert.rejects(
      joinSwitch(join(folder, "none"), () => {}),
      /ENOENT/,
    );
    const other = createServer((socket) => socket.end("hello, this is something else\n")).listen(join(folder, "other"));
    await assert.rejects(
      joinSwitch(join(folder, "other"), () => {}),
      /no switch/,
    );
    other.close();
  });
});

test("plain frames, cut anywhere, are put together", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 14, maxLength: 40 }), { maxLength: 10 }),
      fc.array(fc.nat(20)),
      (frames, cuts) => {
        const listeners = new Map<string, (bytes: Buffer) => void>();
        const socket = {
          on: (name: string, f: (bytes: Buffer) => void) => listeners.set(name, f),
          pause() {},
          resume() {},
          destroy() {},
        };
        const station = new Station(new FrameStream(socket as unknown as Socket, "plain", () => {}));
        station.offloads = NO_OFFLOADS;
        let stream = Buffer.concat(frames.flatMap((bytes) => [Buffer.from([0, 0, 0, bytes.length]), bytes]));
        for (const cut of [...cuts, stream.length]) {
          listeners.get("data")!(stream.subarray(0, cut));
          stream = stream.subarray(cut);
        }
        assert.deepEqual(
          station.frames.map(({ bytes }) => Uint8Array.from(bytes)),
          frames,
        );
      },
    ),
  );
});
