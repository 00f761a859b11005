import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ALL_OFFLOADS, NO_OFFLOADS } from "@xenoserver/devices/net/frames.ts";
import fc from "fast-check";
import { AddressBlock, addressAt, canonical, parseAddress, versionOf } from "./address.ts";
import { parseArp } from "./arp.ts";
import { u16 } from "./bytes.ts";
import { addWords, complement, fold } from "./checksum.ts";
import { parseDhcp } from "./dhcp.ts";
import { formatMac, isGroup, macAt, parseMac, putMac } from "./ethernet.ts";
import { FlowHeader } from "./flow-header.ts";
import { Protocol, parseIp } from "./ip.ts";
import { parseTcp, seqAdd, seqDistance, synOptions } from "./tcp.ts";
import { checksumHolds, parseUdp, sealTransport } from "./transport.ts";

describe("checksums", () => {
  test("the example of RFC 1071", () => {
    const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
    assert.equal(fold(addWords(bytes, 0, 8)), 0xddf2);
    assert.equal(complement(addWords(bytes, 0, 8)), 0x220d);
  });

  test("a stretch can be summed in parts of even length", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(100), (bytes, half) => {
        const cut = Math.min(half * 2, bytes.length);
        const parts = addWords(bytes, cut, bytes.length, addWords(bytes, 0, cut));
        assert.equal(fold(parts), fold(addWords(bytes, 0, bytes.length)));
      }),
    );
  });
});

describe("addresses", () => {
  test("spellings of IPv6", () => {
    const spelled: [string, string | undefined][] = [
      ["::", "::"],
      ["0:0:0:0:0:0:0:1", "::1"],
      ["2001:DB8::0:1", "2001:db8::1"],
      ["1:0:0:2:0:0:0:3", "1:0:0:2::3"],
      ["::ffff:1.2.3.4", "::ffff:102:304"],
      ["1::2::3", undefined],
      ["1:2:3:4:5:6:7", undefined],
      ["1:2:3:4:5:6:7::8", undefined],
      ["12345::", undefined],
      ["1.2.3.4:1::", undefined],
    ];
    for (const [written, spelling] of spelled) assert.equal(canonical(written), spelling, written);
  });

  test("every address survives being written and read", () => {
    const anyAddress = fc.oneof(
      fc.uint8Array({ minLength: 4, maxLength: 4 }),
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
    );
    fc.assert(
      fc.property(anyAddress, (bytes) => {
        assert.deepEqual(parseAddress(addressAt(bytes, 0, versionOf(bytes))), bytes);
      }),
    );
  });

  test("no IPv4 but four decimal numbers", () => {
    for (const text of ["1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4.5", "1.2.3.x", ""])
      assert.equal(canonical(text), undefined);
  });

  test("blocks", () => {
    const block = AddressBlock.parse("10.0.2.77/23")!;
    assert.equal(String(block), "10.0.2.0/23");
    assert.deepEqual(
      ["10.0.3.255", "10.0.4.0", "::1"].map((a) => block.holdsAddress(a)),
      [true, false, false],
    );
    assert.equal(addressAt(block.nth(258), 0, 4), "10.0.3.2");
    assert.deepEqual([...block.mask], [255, 255, 254, 0]);
    assert.ok(AddressBlock.parse("0.0.0.0/0")!.holdsAddress("255.1.2.3"));
    for (const text of ["10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/x"])
      assert.equal(AddressBlock.parse(text), undefined);
  });

  test("MAC addresses", () => {
    const bytes = new Uint8Array(8);
    putMac(bytes, 1, 0x00163e123456);
    assert.equal(Buffer.from(bytes).toString("hex"), "0000163e12345600");
    assert.equal(macAt(bytes, 1), 0x00163e123456);
    assert.equal(parseMac("00:16:3E:12:34:56"), 0x00163e123456);
    assert.equal(formatMac(0x00163e123456), "00:16:3e:12:34:56");
    assert.equal(parseMac("00:16:3e:12:34"), undefined);
    assert.deepEqual([isGroup(0x01005e000001), isGroup(0xfe163e000001)], [true, false]);
  });
});

const FLOWS = ["10.0.0.1", "2001:db8::1"].map((address) => ({
  sourceMac: 2,
  destinationMac: 4,
  source: parseAddress(address)!,
  destination: parseAddress(address)!,
}));

describe("frames of a flow", () => {
  test("have lengths and checksums that hold, whole or to be completed", () => {
    const payload = fc.uint8Array({ minLength: 20, maxLength: 3000 });
    fc.assert(
      fc.property(
        payload,
        fc.constantFrom(...FLOWS),
        fc.constantFrom(Protocol.tcp, Protocol.udp),
        (bytes, flow, protocol) => {
          const header = new FlowHeader({ ...flow, protocol });
          const checksumAt = protocol === Protocol.tcp ? 16 : 6;
          for (const offloads of [NO_OFFLOADS, ALL_OFFLOADS]) {
            const frame = header.frame(bytes.length);
            frame.set(bytes, header.transportAt);
            const { checksum } = header.finish(frame, checksumAt, offloads);
            const packet = parseIp(frame)!;
            assert.equal(packet.end, frame.length);
            assert.equal(packet.protocol, protocol);
            if (checksum === "blank") {
              // As hardware does it: the sum over everything, pseudo-header's sum in the field, goes into the field.
              const sum = complement(addWords(frame, header.transportAt, frame.length));
              frame[header.transportAt + checksumAt] = sum >>> 8;
              frame[header.transportAt + checksumAt + 1] = sum;
            }
            assert.ok(checksumHolds(packet));
            const before = u16(frame, header.transportAt + checksumAt);
            sealTransport(packet);
            const after = u16(frame, header.transportAt + checksumAt);
            assert.equal(after % 0xffff, before % 0xffff);
          }
        },
      ),
    );
  });
});

describe("TCP", () => {
  test("sequence numbers wrap", () => {
    assert.equal(seqAdd(0xfffffff0, 0x20), 0x10);
    assert.equal(seqDistance(0x10, 0xfffffff0), 0x20);
    assert.equal(seqDistance(0xfffffff0, 0x10), -0x20);
  });

  test("options of a SYN are found, broken ones end the search", () => {
    const header = new FlowHeader({ ...FLOWS[0], protocol: Protocol.tcp });
    const parse = (options: Uint8Array) => {
      const frame = header.frame(20 + options.length);
      frame.fill(0, header.transportAt);
      frame[header.transportAt + 12] = (5 + options.length / 4) << 4;
      frame[header.transportAt + 13] = 2;
      frame.set(options, header.transportAt + 20);
      return parseTcp(parseIp(frame)!)!;
    };
    const { mss, windowScale } = parse(synOptions(1460, 7));
    assert.deepEqual([mss, windowScale], [1460, 7]);
    assert.equal(parse(Uint8Array.of(3, 3, 200, 0)).windowScale, 14);
    assert.equal(parse(Uint8Array.of(2, 0, 1, 1)).mss, undefined);
    assert.equal(parse(Uint8Array.of(2, 9, 1, 1)).mss, undefined);
  });
});

test("no bytes make a parser throw or look outside of them", () => {
  const type = fc.constantFrom([0x08, 0x00], [0x08, 0x06], [0x86, 0xdd]);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), type, fc.nat(255), (bytes, etherType, first) => {
      const frame = bytes.slice();
      if (frame.length > 14) frame.set([...etherType, first], 12);
      parseArp(frame);
      parseDhcp(frame);
      const packet = parseIp(frame);
      if (packet === undefined) return;
      assert.ok(packet.payloadAt <= packet.end && packet.end <= frame.length);
      parseTcp(packet);
      parseUdp(packet);
      checksumHolds(packet);
    }),
    { numRuns: 2000 },
  );
});
