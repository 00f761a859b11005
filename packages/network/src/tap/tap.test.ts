/** A tap between a test's kernel and a guest that is played. What needs a kernel is skipped where interfaces cannot be made. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { afterEach, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ALL_OFFLOADS, plug, unplug } from "@xenoserver/devices/net/frames.ts";
import { enterOwnNetwork, interfaceNames, ip } from "../testing/own-network.ts";
import { GUEST_MAC, TestGuest } from "../testing/test-guest.ts";
import { addressAt, parseAddress } from "../wire/address.ts";
import { ArpOperation, buildArp, parseArp } from "../wire/arp.ts";
import { put16 } from "../wire/bytes.ts";
import { BROADCAST, macAt, putEthernet } from "../wire/ethernet.ts";
import { FlowHeader } from "../wire/flow-header.ts";
import { Protocol, parseIp } from "../wire/ip.ts";
import { parseUdp, UDP_BYTES } from "../wire/transport.ts";
import { hasInterface, openTap } from "./interface.ts";
import { openTapNetwork, Tap, type TapLink } from "./tap.ts";
import { VNET_HEADER_BYTES } from "./vnet-header.ts";

const until = async (look: () => boolean): Promise<void> => {
  while (!look()) await new Promise((resolve) => setTimeout(resolve, 2));
};

/** A kernel that is played: frames to be read, and those that were written. */
class TestLink implements TapLink {
  toRead: Uint8Array[] = [];
  written: Uint8Array[] = [];
  isGone = false;
  closed = 0;

  queue(...texts: string[]): void {
    for (const text of texts) {
      const bytes = new Uint8Array(VNET_HEADER_BYTES + 14 + text.length);
      putEthernet(bytes.subarray(VNET_HEADER_BYTES), GUEST_MAC, 2, 0x88b5);
      bytes.set(Buffer.from(text), VNET_HEADER_BYTES + 14);
      this.toRead.push(bytes);
    }
  }

  read(into: SharedArrayBuffer): number | undefined {
    if (this.isGone) return undefined;
    const bytes = this.toRead.shift();
    if (bytes !== undefined) new Uint8Array(into).set(bytes);
    return bytes?.length ?? 0;
  }

  write(_header: Uint8Array, bytes: Uint8Array): void {
    if (this.isGone) throw new Error("EBADFD");
    this.written.push(bytes);
  }

  close(): void {
    this.closed++;
  }
}

describe("a tap's end of the cable", () => {
  let link: TestLink;
  let tap: Tap;
  let guest: TestGuest;
  const logs: string[] = [];
  const texts = (): string[] => guest.heard().map(({ bytes }) => Buffer.from(bytes.subarray(14)).toString());

  beforeEach(() => {
    link = new TestLink();
    tap = new Tap(link, "tap7", { mac: GUEST_MAC, log: (message) => logs.push(message) });
    guest = new TestGuest(tap, 2);
    guest.offloads = ALL_OFFLOADS;
    logs.length = 0;
  });

  test("what came before the guest listened is thrown away, and its place is told the network", () => {
    link.queue("early");
    tap.look();
    link.queue("earlier than its first word");
    tap.onRoom();
    link.queue("now");
    tap.look();
    assert.deepEqual(texts(), ["now"]);
    assert.equal(link.written.length, 1);
    assert.deepEqual([macAt(link.written[0], 0), macAt(link.written[0], 6)], [BROADCAST, GUEST_MAC]);
    tap.onRoom();
    assert.equal(link.written.length, 1);
  });

  test("a guest without room leaves frames with the kernel, and loses none", () => {
    tap.onRoom();
    guest.hasRoom = false;
    link.queue("one", "two", "three");
    tap.look();
    assert.equal(link.toRead.length, 2);
    guest.hasRoom = true;
    tap.onRoom();
    assert.deepEqual(texts(), ["one", "two", "three"]);
  });

  test("many frames are taken by turns with other work", async () => {
    tap.onRoom();
    const all = Array.from({ length: 200 }, (_, n) => `frame ${n}`);
    link.queue(...all);
    tap.look();
    assert.ok(link.toRead.length > 0);
    await until(() => link.toRead.length === 0);
    assert.deepEqual(texts(), all);
  });

  test("an interface that was taken away is told of once, and nothing throws", () => {
    tap.onRoom();
    link.isGone = true;
    guest.send(new Uint8Array(60));
    guest.send(new Uint8Array(60));
    tap.look();
    assert.deepEqual(logs, ["tap tap7 does not take a frame: EBADFD"]);
  });

  test("a pulled cable closes it, once", () => {
    unplug(tap);
    tap.close();
    assert.equal(link.closed, 1);
    assert.equal(tap.onFrame({ bytes: new Uint8Array(60), checksum: "full", segmentBytes: 0 }), true);
    tap.look();
    assert.equal(link.written.length, 0);
  });
});

const HOST = "192.168.77.1";
const GUEST = "192.168.77.2";

const refusal = enterOwnNetwork();

describe("taps of a kernel", { skip: refusal ?? false }, () => {
  const log = assert.fail;
  const taps: Tap[] = [];
  const open = (more: Partial<Parameters<typeof openTapNetwork>[0]> = {}): Tap => {
    const tap = openTapNetwork({ mac: GUEST_MAC, log, ...more });
    taps.push(tap);
    return tap;
  };

  beforeEach(() => {
    ip("link add br7 mtu 1400 type bridge");
    ip(`addr add ${HOST}/24 dev br7`);
    ip("link set br7 up");
  });
  afterEach(() => {
    for (const tap of taps.splice(0)) tap.close();
    ip("link del br7");
  });

  test("an interface is there, up and in its bridge with the bridge's mtu, until it is closed", () => {
    const tap = open({ bridge: "br7" });
    const told = ip(`link show ${tap.name}`);
    assert.match(told, /NOARP/);
    assert.match(told, /[<,]UP[,>].* mtu 1400 .*master br7/);
    assert.match(told, /fe:ff:ff:ff:ff:ff/);
    assert.equal(hasInterface(tap.name), true);
    tap.close();
    assert.equal(hasInterface(tap.name), false);
  });

  test("datagrams go both ways, with their sums left blank", async () => {
    const tap = open({ bridge: "br7" });
    const guest = new TestGuest(tap, 0, GUEST);
    guest.offloads = ALL_OFFLOADS;
    tap.onRoom();
    const socket = createSocket("udp4").bind(5000, HOST);
    await once(socket, "listening");
    try {
      socket.send("hello", 6000, GUEST);
      const isAsked = (): boolean => guest.frames.some(({ bytes }) => parseArp(bytes)?.targetIp === GUEST);
      await until(isAsked);
      const question = guest.heard().flatMap(({ bytes }) => parseArp(bytes) ?? [])[0];
      const [targetMac, targetIp] = [question.senderMac, question.senderIp];
      guest.send(
        buildArp(targetMac, {
          operation: ArpOperation.reply,
          senderMac: guest.mac,
          senderIp: GUEST,
          targetMac,
          targetIp,
        }),
      );
      const isHeard = (): boolean => guest.frames.some(({ bytes }) => parseIp(bytes)?.protocol === Protocol.udp);
      await until(isHeard);
      const frame = guest.heard().find(({ bytes }) => parseIp(bytes)?.protocol === Protocol.udp)!;
      const packet = parseIp(frame.bytes)!;
      assert.equal(frame.checksum, "blank");
      assert.equal(addressAt(frame.bytes, packet.addressesAt, 4), HOST);
      assert.equal(Buffer.from(parseUdp(packet)!.payload).toString(), "hello");

      const answer = once(socket, "message");
      const header = new FlowHeader({
        sourceMac: guest.mac,
        destinationMac: targetMac,
        source: parseAddress(GUEST)!,
        destination: parseAddress(HOST)!,
        protocol: Protocol.udp,
      });
      const bytes = header.frame(UDP_BYTES + 3);
      put16(bytes, header.transportAt, 6000);
      put16(bytes, header.transportAt + 2, 5000);
      put16(bytes, header.transportAt + 4, UDP_BYTES + 3);
      bytes.set(Buffer.from("you"), header.transportAt + UDP_BYTES);
      const blank = header.finish(bytes, 6, ALL_OFFLOADS);
      assert.equal(blank.checksum, "blank");
      guest.send(blank.bytes, { checksum: "blank" });
      const [words] = (await answer) as [Buffer];
      assert.equal(words.toString(), "you");
    } finally {
      socket.close();
    }
  });

  test("two taps in one process, each told of its own frames", async () => {
    const [one, two] = [open({ bridge: "br7" }), open({ bridge: "br7" })];
    const guests = [one, two].map((tap, n) => new TestGuest(tap, 0, GUEST, GUEST_MAC + n));
    for (const tap of [one, two]) tap.onRoom();
    const bytes = new Uint8Array(60);
    putEthernet(bytes, GUEST_MAC + 1, GUEST_MAC, 0x88b5);
    guests[0].send(bytes);
    await until(() => guests[1].frames.some((frame) => frame.bytes[13] === 0xb5));
    assert.deepEqual(
      guests[0].frames.filter((frame) => frame.bytes[13] === 0xb5),
      [],
    );
  });

  test("a tap that root made for somebody is used as it is, and stays", () => {
    ip("tuntap add dev made mode tap user 12345");
    ip("link set made mtu 1300 master br7 up");
    const tap = open({ name: "made", bridge: "br7" });
    assert.equal(tap.name, "made");
    assert.match(ip("link show made"), /mtu 1300 .*master br7/);
    assert.throws(() => openTap({ name: "made" }), /^Error: tap made is in use by another domain or program$/);
    tap.close();
    assert.equal(hasInterface("made"), true);
    ip("link del made");
  });

  test("what cannot be had is told, and leaves nothing behind", () => {
    ip("tuntap add dev made mode tap");
    const before = interfaceNames();
    assert.throws(
      () => openTap({ bridge: "made" }),
      /^Error: interface made is no bridge, expected one: ip link add made/,
    );
    assert.throws(() => openTap({ bridge: "nobody" }), /bridge nobody/);
    assert.throws(() => openTap({ name: "br7" }), /^Error: interface br7 is no tap/);
    assert.deepEqual(interfaceNames(), before);
    ip("link del made");
  });

  test("an interface that somebody deletes is told of, and nothing throws", async () => {
    const words: string[] = [];
    const tap = open({ log: (message) => words.push(message) });
    const guest = new TestGuest(tap, 0, GUEST);
    tap.onRoom();
    ip(`link del ${tap.name}`);
    guest.send(new Uint8Array(60));
    assert.match(words.join(), new RegExp(`^tap ${tap.name} (is gone|does not take a frame)`));
  });

  test("it is gone with its process, however that ends", async () => {
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      const program = fileURLToPath(new URL("../testing/tap-holder.ts", import.meta.url));
      const child = spawn(process.execPath, [...process.execArgv, program, JSON.stringify({ bridge: "br7" })], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const [line] = (await once(child.stdout, "data")) as [Buffer];
      const name = line.toString().trim();
      assert.equal(hasInterface(name), true);
      child.kill(signal);
      await once(child, "exit");
      assert.equal(hasInterface(name), false);
    }
  });
});

test("a tap that is let go is not served", { skip: refusal ?? false }, () => {
  const tap = openTapNetwork({ mac: GUEST_MAC, log: assert.fail });
  const guest = new TestGuest(tap, 0, GUEST);
  plug(tap, guest);
  tap.close();
  assert.equal(guest.peer, undefined);
});
