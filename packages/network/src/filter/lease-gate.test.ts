/** A copy of a guest on a network that its original is on. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { type Frame, type Frames, NO_OFFLOADS, plug } from "@xenoserver/devices/net/frames.ts";
import { GUEST_MAC, TestGuest } from "../testing/test-guest.ts";
import { parseAddress } from "../wire/address.ts";
import { ArpOperation, buildArp } from "../wire/arp.ts";
import { buildDhcpReply, DhcpOption, DhcpType } from "../wire/dhcp.ts";
import { BROADCAST, type Mac, putMac } from "../wire/ethernet.ts";
import { Filter } from "./filter.ts";
import { LeaseGate } from "./lease-gate.ts";

const [OLD_MAC, SERVER_MAC] = [GUEST_MAC + 1, 0x525500000001];
const [OLD_IP, NEW_IP, SERVER_IP] = ["10.0.2.15", "10.0.2.16", "10.0.2.2"];

let sent: Frame[];
let guest: TestGuest;
let server: TestGuest;

beforeEach(() => {
  sent = [];
  const filter = new Filter({
    ...{ mac: GUEST_MAC, addresses: [], allow: [], deny: [] },
    gate: new LeaseGate(GUEST_MAC),
  });
  const network: Frames = {
    ...{ offloads: NO_OFFLOADS, peer: undefined, onRoom: () => {} },
    onFrame: (frame) => sent.push(frame) > 0,
  };
  guest = new TestGuest(network, SERVER_MAC, OLD_IP);
  filter.join(guest, network);
  server = new TestGuest(network, GUEST_MAC, SERVER_IP, SERVER_MAC);
  plug(server, filter.outside);
  filter.outside.peer = network;
});

function passed(send: () => void): number {
  sent = [];
  send();
  return sent.length;
}
function heard(send: () => void): number {
  guest.frames = [];
  send();
  return guest.frames.length;
}

const talk = () => guest.udp({ to: "10.0.2.9", sourcePort: 5000, destinationPort: 53 }, new Uint8Array(4));
const arp = (senderIp: string) => () =>
  guest.send(
    buildArp(BROADCAST, {
      ...{ operation: ArpOperation.request, senderMac: GUEST_MAC, senderIp, targetMac: 0, targetIp: SERVER_IP },
    }),
  );

/** What a DHCP client sends. */
function ask(type: number, fields: { requested?: string; server?: string; client?: string; mac?: Mac } = {}) {
  const { requested, server: chosen, client = "0.0.0.0", mac = GUEST_MAC } = fields;
  const message = new Uint8Array(300);
  message.set([1, 1, 6, 0]);
  message.set(parseAddress(client)!, 12);
  putMac(message, 28, mac);
  const options = [
    [DhcpOption.messageType, 1, type],
    ...(requested === undefined ? [] : [[DhcpOption.requestedIp, 4, ...parseAddress(requested)!]]),
    ...(chosen === undefined ? [] : [[DhcpOption.serverId, 4, ...parseAddress(chosen)!]]),
    [DhcpOption.end],
  ];
  message.set([0x63, 0x82, 0x53, 0x63, ...options.flat()], 236);
  return () => guest.udp({ from: client, to: "255.255.255.255", sourcePort: 68, destinationPort: 67 }, message);
}

/** What a DHCP server answers. */
const answer =
  (type: number, address: string, mac: Mac = GUEST_MAC) =>
  () => {
    const request = { type: DhcpType.request, transaction: 7, mac, clientIp: "0.0.0.0", wantsBroadcast: true };
    const options = [[DhcpOption.messageType, Uint8Array.of(type)]] as const;
    const reply = buildDhcpReply(request, parseAddress(address)!, parseAddress(SERVER_IP)!, options);
    server.udp({ to: "255.255.255.255", sourcePort: 67, destinationPort: 68 }, reply);
  };
const nameServer = () => server.udp({ to: OLD_IP, sourcePort: 53, destinationPort: 5000 }, new Uint8Array(4));

describe("a copy on a network with its original", () => {
  test("says and hears nothing but DHCP before it has a lease, and anything from then on", () => {
    assert.equal(passed(talk), 0);
    assert.equal(passed(arp(OLD_IP)), 0);
    assert.equal(passed(arp("0.0.0.0")), 0);
    assert.equal(heard(nameServer), 0);
    assert.equal(passed(ask(DhcpType.discover)), 1);
    assert.equal(heard(answer(DhcpType.offer, NEW_IP)), 1);
    assert.equal(passed(talk), 0);
    assert.equal(passed(ask(DhcpType.request, { requested: NEW_IP, server: SERVER_IP })), 1);
    assert.equal(heard(answer(DhcpType.ack, NEW_IP)), 1);
    assert.equal(passed(talk), 1);
    assert.equal(passed(arp(NEW_IP)), 1);
    assert.equal(heard(nameServer), 1);
  });

  test("asks under its own address only, and does not go on with the other's lease", () => {
    assert.equal(passed(ask(DhcpType.discover, { mac: OLD_MAC })), 0);
    assert.equal(passed(ask(DhcpType.request, { client: OLD_IP })), 0);
    assert.equal(passed(ask(DhcpType.release, { client: OLD_IP })), 0);
    assert.equal(passed(ask(DhcpType.decline, { requested: OLD_IP })), 0);
    const old = new TestGuest(guest.peer!, SERVER_MAC, OLD_IP, OLD_MAC);
    assert.equal(
      passed(() => old.udp({ to: SERVER_IP, sourcePort: 5000, destinationPort: 53 }, new Uint8Array(4))),
      0,
    );
  });

  for (const [how, use] of [
    ["asked for again", ask(DhcpType.request, { requested: OLD_IP })],
    ["used", talk],
    ["spoken of by ARP", arp(OLD_IP)],
  ] as const)
    test(`does not get the address that the other has, which it has ${how}, even if a server gives it`, () => {
      use();
      assert.equal(heard(answer(DhcpType.ack, OLD_IP)), 0);
      assert.equal(passed(talk), 0);
      assert.equal(heard(answer(DhcpType.ack, NEW_IP)), 1);
      assert.equal(passed(talk), 1);
    });

  test("is not let on by another station's lease, nor by an answer without an address", () => {
    heard(answer(DhcpType.ack, NEW_IP, OLD_MAC));
    heard(answer(DhcpType.ack, "0.0.0.0"));
    heard(answer(DhcpType.nak, "0.0.0.0"));
    assert.equal(passed(talk), 0);
  });
});
