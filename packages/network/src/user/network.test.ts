/** The network as a guest meets it: addresses, names, echoes, and what it says to nonsense. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { connect } from "node:net";
import { afterEach, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { GUEST_MAC, ipv4Frame, TestGuest } from "../testing/test-guest.ts";
import { AddressBlock, addressAt, parseAddress } from "../wire/address.ts";
import { ArpOperation, buildArp, parseArp } from "../wire/arp.ts";
import { put16, put32 } from "../wire/bytes.ts";
import { addWords, complement } from "../wire/checksum.ts";
import { DhcpType } from "../wire/dhcp.ts";
import { BROADCAST, putEthernet, putMac } from "../wire/ethernet.ts";
import { isIcmpv6 } from "../wire/icmpv6.ts";
import { Protocol, parseIp, putIpv6, sealIpv4 } from "../wire/ip.ts";
import { checksumHolds } from "../wire/transport.ts";
import { GATEWAY_MAC, type UserNetworkConfig } from "./config.ts";
import { UserNetwork } from "./network.ts";

let network: UserNetwork;
let guest: TestGuest;

beforeEach(() => {
  network = new UserNetwork({ egress: { host: true } });
  guest = new TestGuest(network, GATEWAY_MAC);
});
afterEach(() => network.close());

const DHCP = { from: "0.0.0.0", to: "255.255.255.255", sourcePort: 68, destinationPort: 67 };

/** A DHCP message of a client with these options, each with its length before it. */
function dhcpMessage(type: number, options: number[] = [], mac = GUEST_MAC): Uint8Array {
  const message = new Uint8Array(300);
  message.set([1, 1, 6, 0]);
  put32(message, 4, 0xdecade);
  putMac(message, 28, mac);
  put32(message, 236, 0x63825363);
  message.set([53, 1, type, ...options, 255], 240);
  return message;
}

const askDhcp = (type: number, options: number[] = [], mac = GUEST_MAC): Buffer | undefined => {
  guest.udp(DHCP, dhcpMessage(type, options, mac), BROADCAST);
  const [reply] = guest.datagrams();
  return reply && Buffer.from(reply.payload);
};
const yourIp = (reply: Buffer): string => [...reply.subarray(16, 20)].join(".");

describe("DHCP", () => {
  test("a guest gets the first address, the gateway, the resolver and the size of packets", () => {
    const offer = askDhcp(DhcpType.discover)!;
    assert.equal(offer[242], DhcpType.offer);
    assert.equal(yourIp(offer), "10.0.2.15");
    assert.equal(offer.readUInt32BE(4), 0xdecade);
    const ack = askDhcp(DhcpType.request, [50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2])!;
    assert.equal(ack[242], DhcpType.ack);
    const options = ack.subarray(240).toString("hex");
    for (const option of ["0304" + "0a000202", "0604" + "0a000203", "0104" + "ffffff00", "1a02" + "05dc"]) {
      assert.ok(options.includes(option), option);
    }
  });

  test("another station gets another address, and keeps it", () => {
    askDhcp(DhcpType.discover);
    assert.equal(yourIp(askDhcp(DhcpType.discover, [], 0x00163e000002)!), "10.0.2.16");
    assert.equal(yourIp(askDhcp(DhcpType.discover)!), "10.0.2.15");
    assert.equal(yourIp(askDhcp(DhcpType.discover, [], 0x00163e000002)!), "10.0.2.16");
  });

  test("a request for an address that is another's, or another server's, is refused or left alone", () => {
    askDhcp(DhcpType.discover);
    assert.equal(askDhcp(DhcpType.request, [50, 4, 10, 0, 2, 15], 0x00163e000002)![242], DhcpType.nak);
    assert.equal(askDhcp(DhcpType.request, [50, 4, 10, 0, 2, 2])![242], DhcpType.nak);
    assert.equal(askDhcp(DhcpType.request, [50, 4, 10, 0, 2, 15, 54, 4, 9, 9, 9, 9]), undefined);
  });

  test("an address that was released is free again", () => {
    askDhcp(DhcpType.discover);
    askDhcp(DhcpType.release);
    assert.equal(yourIp(askDhcp(DhcpType.discover, [], 0x00163e000002)!), "10.0.2.15");
  });

  test("a full network offers nothing", () => {
    const small = new UserNetwork({ subnet: AddressBlock.parse("192.168.7.0/29")! });
    guest = new TestGuest(small, GATEWAY_MAC);
    const offers = Array.from({ length: 4 }, (_, n) => askDhcp(DhcpType.discover, [], GUEST_MAC + n));
    assert.deepEqual(
      offers.map((offer) => offer && yourIp(offer)),
      ["192.168.7.4", "192.168.7.5", "192.168.7.6", undefined],
    );
  });

  test("a station with an address of its own gets that one", () => {
    const fixed = new UserNetwork({ fixed: new Map([[GUEST_MAC, "10.0.2.77"]]) });
    guest = new TestGuest(fixed, GATEWAY_MAC);
    assert.equal(yourIp(askDhcp(DhcpType.discover, [50, 4, 10, 0, 2, 20])!), "10.0.2.77");
  });
});

/** A port that leads to a guest, and a connection to it. */
async function openForwarded(config: UserNetworkConfig) {
  const forwards = [{ protocol: "tcp", host: "127.0.0.1", hostPort: 0, guest: "10.0.2.77", guestPort: 22 }] as const;
  const own = await UserNetwork.open({ ...config, forwards });
  const silent = new TestGuest(own, GATEWAY_MAC, "10.0.2.77");
  const socket = connect(own.forwards[0]!.hostPort, "127.0.0.1");
  socket.on("error", () => {});
  const hears = async (): Promise<void> => {
    for (let turn = 0; turn < 200 && silent.frames.length === 0; turn++)
      await new Promise((resolve) => setTimeout(resolve, 10));
  };
  return { own, silent, socket, hears };
}

test("a connection to a guest that was not heard of has it asked for its address, and reaches it then", async () => {
  const { own, silent, socket, hears } = await openForwarded({});
  try {
    await hears();
    const [asked] = silent.heard().map(({ bytes }) => parseArp(bytes)!);
    assert.deepEqual(
      [asked?.operation, asked?.senderIp, asked?.targetIp],
      [ArpOperation.request, "10.0.2.2", "10.0.2.77"],
    );
    const answer = { operation: ArpOperation.reply, senderMac: GUEST_MAC, senderIp: "10.0.2.77" };
    silent.send(buildArp(GATEWAY_MAC, { ...answer, targetMac: GATEWAY_MAC, targetIp: "10.0.2.2" }));
    await hears();
    assert.equal(silent.segments()[0]?.destinationPort, 22);
  } finally {
    socket.destroy();
    own.close();
  }
});

test("a connection to a guest that has an address of its own reaches it before it has said a word", async () => {
  const { own, silent, socket, hears } = await openForwarded({ fixed: new Map([[GUEST_MAC, "10.0.2.77"]]) });
  try {
    await hears();
    assert.equal(silent.segments()[0]?.destinationPort, 22);
  } finally {
    socket.destroy();
    own.close();
  }
});

test("ARP is answered for the gateway and the resolver, and for nobody else", () => {
  const answers = ["10.0.2.2", "10.0.2.3", "10.0.2.99"].map((targetIp) => {
    const ask = {
      operation: ArpOperation.request,
      senderMac: GUEST_MAC,
      senderIp: "10.0.2.15",
      targetMac: 0,
      targetIp,
    };
    guest.send(buildArp(BROADCAST, ask));
    return guest.heard().map(({ bytes }) => parseArp(bytes)!.senderIp);
  });
  assert.deepEqual(answers, [["10.0.2.2"], ["10.0.2.3"], []]);
});

test("an address that the subnet does not have, or that is the gateway's, is refused", () => {
  for (const address of ["192.168.1.5", "10.0.2.2"]) {
    assert.throws(() => new UserNetwork({ fixed: new Map([[GUEST_MAC, address]]) }), /expected one of 10\.0\.2\.0\/24/);
  }
});

describe("ICMP", () => {
  const echo = (to: string): void => {
    const message = Uint8Array.of(8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7);
    put16(message, 2, complement(addWords(message, 0, message.length)));
    guest.send(ipv4Frame(guest, to, Protocol.icmp, message));
  };

  test("the gateway echoes", () => {
    echo("10.0.2.2");
    const [{ type, body }] = guest.icmp();
    assert.deepEqual([type, [...body]], [0, [1, 2, 3, 4, 5, 6, 7]]);
  });

  test("an echo into the world is said to be prohibited", () => {
    echo("192.0.2.77");
    const [{ type, code }] = guest.icmp();
    assert.deepEqual([type, code], [3, 13]);
  });

  test("a protocol that nobody carries is unreachable", () => {
    guest.send(ipv4Frame(guest, "192.0.2.77", 132, new Uint8Array(20)));
    const [{ type, code }] = guest.icmp();
    assert.deepEqual([type, code], [3, 2]);
  });
});

/** A UDP server of the host that answers with what it got, backwards. */
async function withEcho(use: (port: number) => Promise<void>): Promise<void> {
  const server = createSocket("udp4");
  server.on("message", (bytes, { address, port }) => server.send(Buffer.from(bytes).reverse(), port, address));
  await new Promise<void>((resolve) => server.bind(0, "127.0.0.1", resolve));
  try {
    await use(server.address().port);
  } finally {
    server.close();
  }
}

async function until<T>(look: () => T | undefined | false): Promise<T> {
  for (;;) {
    const found = look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

describe("UDP", () => {
  test("goes to the host and comes back from where it went", () =>
    withEcho(async (port) => {
      guest.udp({ to: "10.0.2.2", sourcePort: 4000, destinationPort: port }, Buffer.from("abc"));
      const answer = await until(() => guest.frames.length > 0 && guest.datagrams()[0]);
      assert.deepEqual(
        [Buffer.from(answer.payload).toString(), answer.from, answer.sourcePort, answer.destinationPort],
        ["cba", "10.0.2.2", port, 4000],
      );
    }));

  test("datagrams larger than a packet go and come in fragments", () =>
    withEcho(async (port) => {
      const sent = Uint8Array.from({ length: 4000 }, (_, n) => n);
      const whole = captured((recorder) =>
        recorder.udp({ to: "10.0.2.2", sourcePort: 4000, destinationPort: port }, sent),
      );
      for (const piece of cut(whole, 1480)) guest.send(piece);
      await until(() => guest.frames.length === 3);
      const pieces = guest.heard().map(({ bytes }) => bytes);
      const got = Buffer.concat(pieces.map((bytes) => bytes.subarray(34)));
      assert.deepEqual(Uint8Array.from(got.subarray(8)).reverse(), sent);
      assert.ok(pieces.every(({ length }) => length <= 1514));
    }));

  test("this host's loopback is not there unless it was asked for", () => {
    const closed = new TestGuest(new UserNetwork(), GATEWAY_MAC);
    for (const to of ["10.0.2.2", "127.0.0.1", "169.254.169.254", "224.0.0.1"]) {
      closed.udp({ to, sourcePort: 4000, destinationPort: 53 }, Buffer.from("x"));
      const [message] = closed.icmp();
      assert.deepEqual([message?.type, message?.code], [3, 13], to);
    }
  });

  test("names are asked of the resolver", () =>
    withResolver(async (port) => {
      const named = new TestGuest(new UserNetwork({ resolvers: [`127.0.0.1:${port}`] }), GATEWAY_MAC);
      const question = Buffer.from("beef01000001000000000000", "hex");
      named.udp({ to: "10.0.2.3", sourcePort: 5353, destinationPort: 53 }, question);
      const answer = await until(() => named.frames.length > 0 && named.datagrams()[0]);
      assert.deepEqual([answer.from, answer.sourcePort], ["10.0.2.3", 53]);
      assert.equal(Buffer.from(answer.payload).toString("hex"), "beef81000001000000000000");
    }));
});

async function withResolver(use: (port: number) => Promise<void>): Promise<void> {
  const server = createSocket("udp4");
  server.on("message", (bytes, { address, port }) => {
    const answer = Buffer.from(bytes);
    answer[2] |= 0x80;
    server.send(answer, port, address);
  });
  await new Promise<void>((resolve) => server.bind(0, "127.0.0.1", resolve));
  try {
    await use(server.address().port);
  } finally {
    server.close();
  }
}

/** The frame that a guest sends. */
function captured(act: (guest: TestGuest) => void): Uint8Array {
  const frames: Uint8Array[] = [];
  const recorder = new TestGuest(
    { offloads: network.offloads, peer: undefined, onFrame: ({ bytes }) => frames.push(bytes) > 0, onRoom: () => {} },
    GATEWAY_MAC,
  );
  act(recorder);
  return frames[0];
}

function cut(whole: Uint8Array, pieceBytes: number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let from = 34; from < whole.length; from += pieceBytes) {
    const to = Math.min(whole.length, from + pieceBytes);
    const piece = Buffer.concat([whole.subarray(0, 34), whole.subarray(from, to)]);
    put16(piece, 16, piece.length - 14);
    put16(piece, 20, ((from - 34) >>> 3) | (to < whole.length ? 0x2000 : 0));
    sealIpv4(piece);
    pieces.push(piece);
  }
  // Out of order, as they may come.
  return pieces.reverse();
}

describe("IPv6", () => {
  const GUEST = "fd78:656e:6f00:2::15";
  const icmpv6 = (from: string, to: string, toMac: number, message: number[], hopLimit = 255): void => {
    const frame = new Uint8Array(54 + message.length);
    putEthernet(frame, toMac, GUEST_MAC, 0x86dd);
    putIpv6(frame, parseAddress(from)!, parseAddress(to)!, Protocol.icmpv6, message.length, hopLimit);
    frame.set(message, 54);
    const sum = addWords(frame, 22, 54, Protocol.icmpv6 + message.length);
    put16(frame, 56, complement(addWords(frame, 54, frame.length, sum)));
    guest.send(frame);
  };
  const answers = () =>
    guest.heard().map(({ bytes }) => {
      const packet = parseIp(bytes)!;
      assert.ok(isIcmpv6(packet), "its checksum is right");
      const words = Buffer.from(bytes.subarray(54)).toString("hex");
      return { type: bytes[54], code: bytes[55], words, from: addressAt(bytes, 22, 6), to: addressAt(bytes, 38, 6) };
    });

  beforeEach(() => {
    network = new UserNetwork({ ipv6: true, egress: { host: true } });
    guest = new TestGuest(network, GATEWAY_MAC, GUEST);
  });

  test("a solicited router tells its prefix, its resolver and the size of packets", () => {
    icmpv6("fe80::1", "ff02::2", 0x333300000002, [133, 0, 0, 0, 0, 0, 0, 0]);
    const [{ type, from, words }] = answers();
    assert.deepEqual([type, from], [134, "fe80::2"]);
    assert.ok(words.includes("0304" + "40c0"));
    for (const address of [
      "fd78656e6f000002" + "0".repeat(16),
      "fd78656e6f000002" + "0".repeat(15) + "3",
      "000005dc",
    ]) {
      assert.ok(words.includes(address), address);
    }
  });

  test("neighbours are told where the gateway is; not by who is not on the link", () => {
    const ask = [135, 0, 0, 0, 0, 0, 0, 0, ...parseAddress("fe80::2")!];
    icmpv6("::", "ff02::1:ff00:2", 0x3333ff000002, ask);
    icmpv6(GUEST, "ff02::1:ff00:2", 0x3333ff000002, ask);
    icmpv6(GUEST, "ff02::1:ff00:2", 0x3333ff000002, ask, 64);
    icmpv6(GUEST, "ff02::1:ff00:2", 0x3333ff000002, [135, 0, 0, 0, 0, 0, 0, 0, ...parseAddress("fe80::3")!]);
    assert.deepEqual(
      answers().map(({ type, from, to }) => [type, from, to]),
      [
        [136, "fe80::2", "ff02::1"],
        [136, "fe80::2", GUEST],
      ],
    );
  });

  test("the gateway echoes", () => {
    icmpv6(GUEST, "fd78:656e:6f00:2::2", GATEWAY_MAC, [128, 0, 0, 0, 1, 2, 3, 4, 5]);
    assert.deepEqual(
      answers().map(({ type, words }) => [type, words.slice(8)]),
      [[129, "0102030405"]],
    );
  });

  test("what may not be reached is said so", () => {
    guest.udp({ to: "fe80::77", sourcePort: 1, destinationPort: 2 }, new Uint8Array(4));
    assert.deepEqual(
      answers().map(({ type, code }) => [type, code]),
      [[1, 1]],
    );
  });

  test("datagrams go and come", async (t) => {
    const server = createSocket("udp6");
    server.on("message", (bytes, { address, port }) => server.send(bytes, port, address));
    const bound = await new Promise<boolean>((resolve) =>
      server.once("error", () => resolve(false)).bind(0, "::1", () => resolve(true)),
    );
    if (!bound) return t.skip("this host has no IPv6");
    guest.udp(
      { to: "fd78:656e:6f00:2::2", sourcePort: 4000, destinationPort: server.address().port },
      Buffer.from("six"),
    );
    const frame = await until(() => guest.frames.length > 0 && guest.heard()[0]);
    server.close();
    assert.equal(Buffer.from(frame.bytes.subarray(62)).toString(), "six");
    assert.ok(checksumHolds(parseIp(frame.bytes)!));
  });

  test("without IPv6, nothing is answered", () => {
    guest = new TestGuest(new UserNetwork({ ipv6: false }), GATEWAY_MAC, GUEST);
    icmpv6("fe80::1", "ff02::2", 0x333300000002, [133, 0, 0, 0, 0, 0, 0, 0]);
    assert.deepEqual(guest.heard(), []);
  });
});

test("no frame makes the network throw, whatever is in it", () => {
  // Nothing of it must reach the world.
  const shut = new UserNetwork({
    ipv6: true,
    egress: { deny: ["0.0.0.0/0", "::/0"].map((b) => AddressBlock.parse(b)!) },
  });
  guest = new TestGuest(shut, GATEWAY_MAC);
  const start = captured((recorder) =>
    recorder.udp({ to: "10.0.2.2", sourcePort: 1, destinationPort: 2 }, new Uint8Array(60)),
  );
  const changed = fc.array(fc.tuple(fc.nat(start.length - 1), fc.nat(255)), { maxLength: 8 });
  const checksum = fc.constantFrom("full", "verified", "blank") as fc.Arbitrary<"full" | "verified" | "blank">;
  fc.assert(
    fc.property(changed, fc.nat(start.length), checksum, fc.boolean(), (changes, length, state, seals) => {
      const bytes = start.slice();
      for (const [at, value] of changes) bytes[at] = value;
      if (seals && (bytes[14] & 15) === 5) sealIpv4(bytes);
      guest.send(bytes.slice(0, length || bytes.length), { checksum: state });
      guest.heard();
    }),
    { numRuns: 3000 },
  );
});
