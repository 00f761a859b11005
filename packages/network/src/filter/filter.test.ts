import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { type Frame, type Frames, NO_OFFLOADS, plug } from "@xenoserver/devices/net/frames.ts";
import { GUEST_MAC, ipv4Frame, TestGuest } from "../testing/test-guest.ts";
import { AddressBlock } from "../wire/address.ts";
import { ArpOperation, buildArp } from "../wire/arp.ts";
import { BROADCAST, putEthernet, putMac } from "../wire/ethernet.ts";
import { Protocol, putIpv6 } from "../wire/ip.ts";
import { TcpFlag } from "../wire/tcp.ts";
import { Filter, type FilterRules } from "./filter.ts";

let got: Frame[];
let guest: TestGuest;
let filter: Filter;
let network: Frames;

function setUp(changes: Partial<FilterRules> = {}, mac: FilterRules["mac"] = GUEST_MAC): void {
  got = [];
  network = { offloads: NO_OFFLOADS, peer: undefined, onFrame: (frame) => got.push(frame) > 0, onRoom: () => {} };
  guest = new TestGuest({ ...network }, 0x525500000001);
  filter = new Filter({ ...(mac !== 0 && { mac }), addresses: ["10.0.2.15"], allow: [], deny: [], ...changes });
  filter.join(guest, network);
}
beforeEach(() => setUp());

/** How many frames went through. */
function passed(send: () => void): number {
  got = [];
  send();
  return got.length;
}

const udp =
  (from: string, to = "10.9.9.9", sourcePort = 5000, destinationPort = 53) =>
  () =>
    guest.udp({ from, to, sourcePort, destinationPort }, new Uint8Array(4));
const arp = (senderMac: number, senderIp: string) => () =>
  guest.send(
    buildArp(BROADCAST, { operation: ArpOperation.request, senderMac, senderIp, targetMac: 0, targetIp: "10.0.2.2" }),
  );

describe("what a guest sends", () => {
  test("under its own addresses passes, under others does not", () => {
    assert.equal(passed(udp("10.0.2.15")), 1);
    assert.equal(passed(udp("10.0.2.16")), 0);
    assert.equal(passed(arp(GUEST_MAC, "10.0.2.15")), 1);
    assert.equal(passed(arp(GUEST_MAC, "0.0.0.0")), 1);
    assert.equal(passed(arp(GUEST_MAC, "10.0.2.2")), 0);
    assert.equal(passed(arp(GUEST_MAC + 1, "10.0.2.15")), 0);
    assert.equal(filter.dropped, 3);
  });

  test("from another station does not pass, whatever is in it", () => {
    const other = new TestGuest({ ...network }, 0x525500000001, "10.0.2.15", GUEST_MAC + 1);
    filter.join(other, network);
    assert.equal(
      passed(() => other.udp({ to: "10.9.9.9", sourcePort: 1, destinationPort: 2 }, new Uint8Array(4))),
      0,
    );
  });

  test("from any station passes where nobody else is, if it says the same of itself everywhere", () => {
    setUp({}, 0);
    assert.equal(passed(udp("10.0.2.15")), 1);
    const lie = buildArp(BROADCAST, {
      ...{ operation: ArpOperation.request, senderMac: GUEST_MAC + 1, senderIp: "10.0.2.15" },
      ...{ targetMac: 0, targetIp: "10.0.2.2" },
    });
    putMac(lie, 6, GUEST_MAC);
    assert.equal(
      passed(() => guest.send(lie)),
      0,
    );
    const other = new TestGuest({ ...network }, 0x525500000001, "10.0.2.15", GUEST_MAC + 1);
    filter.join(other, network);
    const sent = (from: string) =>
      passed(() => other.udp({ from, to: "10.9.9.9", sourcePort: 1, destinationPort: 2 }, new Uint8Array(4)));
    assert.deepEqual([sent("10.0.2.15"), sent("10.0.2.16")], [1, 0]);
  });

  test("before it has an address is DHCP's question, and nothing else", () => {
    assert.equal(passed(udp("0.0.0.0", "255.255.255.255", 68, 67)), 1);
    assert.equal(passed(udp("0.0.0.0", "10.9.9.9", 5000, 53)), 0);
  });

  test("in the network's name does not pass: DHCP's answers, routers' advertisements", () => {
    setUp({ addresses: [] });
    assert.equal(passed(udp("10.0.2.15", "255.255.255.255", 67, 68)), 0);
    const advertisement = (type: number) => () => {
      const frame = new Uint8Array(14 + 40 + 8);
      putEthernet(frame, 0x333300000001, GUEST_MAC, 0x86dd);
      const address = new Uint8Array(16);
      address.set([0xfe, 0x80]);
      putIpv6(frame, address, address, Protocol.icmpv6, 8);
      frame[54] = type;
      guest.send(frame);
    };
    assert.equal(passed(advertisement(134)), 0);
    assert.equal(passed(advertisement(135)), 1);
  });

  test("with a tag passes only if the guest may use any address", () => {
    const tagged = () => {
      const frame = new Uint8Array(64);
      putEthernet(frame, BROADCAST, GUEST_MAC, 0x8100);
      guest.send(frame);
    };
    assert.equal(passed(tagged), 0);
    setUp({ addresses: [] });
    assert.equal(passed(tagged), 1);
  });

  test("to where it may not go does not pass, unless that is excepted", () => {
    setUp({ deny: [AddressBlock.parse("10.0.0.0/8")!], allow: [AddressBlock.parse("10.9.9.0/24")!] });
    assert.equal(passed(udp("10.0.2.15", "10.8.8.8")), 0);
    assert.equal(passed(udp("10.0.2.15", "10.9.9.9")), 1);
    assert.equal(passed(udp("10.0.2.15", "192.0.2.1")), 1);
  });

  test("too short or malformed does not pass", () => {
    assert.equal(
      passed(() => guest.send(new Uint8Array(5))),
      0,
    );
    const broken = ipv4Frame(guest, "10.9.9.9", 17, new Uint8Array(8));
    broken[14] = 0x4f;
    assert.equal(
      passed(() => guest.send(broken)),
      0,
    );
  });
});

describe("what comes for a guest that accepts only some connections", () => {
  /** A frame from a peer, as it would come from the network. */
  const come = (send: (peer: TestGuest) => void): number => {
    const frames: Frame[] = [];
    const peer = new TestGuest(
      { ...network, onFrame: (frame) => frames.push(frame) > 0 },
      GUEST_MAC,
      "10.9.9.9",
      0x525500000001,
    );
    send(peer);
    guest.heard();
    for (const frame of frames) filter.outside.onFrame(frame);
    return guest.heard().length;
  };
  const tcp = (port: number, flags: number) => (peer: TestGuest) =>
    peer.tcp({ to: "10.0.2.15", sourcePort: 4000, destinationPort: port }, { seq: 1, flags });
  const datagram = (sourcePort: number, destinationPort: number) => (peer: TestGuest) =>
    peer.udp({ to: "10.0.2.15", sourcePort, destinationPort }, new Uint8Array(4));

  beforeEach(() =>
    setUp({
      accept: [
        { protocol: "tcp", port: 22 },
        { protocol: "udp", port: 7 },
      ],
    }),
  );

  test("those begin, others do not, and those that were begun go on", () => {
    assert.equal(come(tcp(22, TcpFlag.syn)), 1);
    assert.equal(come(tcp(80, TcpFlag.syn)), 0);
    assert.equal(come(tcp(80, TcpFlag.syn | TcpFlag.ack)), 1);
    assert.equal(come(tcp(80, TcpFlag.ack)), 1);
    assert.equal(come(datagram(4000, 7)), 1);
  });

  test("datagrams answer what was asked, and DHCP", () => {
    assert.equal(come(datagram(53, 5000)), 0);
    udp("10.0.2.15")();
    assert.equal(come(datagram(53, 5000)), 1);
    assert.equal(come(datagram(54, 5000)), 0);
    assert.equal(come(datagram(67, 68)), 1);
  });

  test("echoes and ARP pass, other protocols do not", () => {
    assert.equal(
      come((peer) => peer.send(ipv4Frame(peer, "10.0.2.15", Protocol.icmp, new Uint8Array(8)))),
      1,
    );
    assert.equal(
      come((peer) => peer.send(ipv4Frame(peer, "10.0.2.15", 132, new Uint8Array(8)))),
      0,
    );
  });
});

test("what comes from the network passes, and room is told both ways", () => {
  filter.outside.onFrame({ bytes: new Uint8Array(60), checksum: "full", segmentBytes: 0 });
  assert.equal(guest.heard().length, 1);
  guest.hasRoom = false;
  assert.equal(filter.outside.onFrame({ bytes: new Uint8Array(60), checksum: "full", segmentBytes: 0 }), false);
  let told = 0;
  const listening: Frames = { ...network, onRoom: () => told++ };
  plug(filter.outside, listening);
  guest.peer!.onRoom();
  assert.equal(told, 1);
});
