import assert from "node:assert/strict";
import { test } from "node:test";
import { ALL_OFFLOADS, type Frame, NO_OFFLOADS } from "@xenoserver/devices/net/frames.ts";
import fc from "fast-check";
import { parseAddress } from "../wire/address.ts";
import { put32 } from "../wire/bytes.ts";
import { FlowHeader } from "../wire/flow-header.ts";
import { Protocol, parseIp } from "../wire/ip.ts";
import { parseTcp, TcpFlag } from "../wire/tcp.ts";
import { checksumHolds } from "../wire/transport.ts";
import { finishFor } from "./finish.ts";

/** A TCP packet as a guest's kernel leaves it to its device. */
function unfinished(data: Uint8Array, address: string, flags: number, segmentBytes: number): Frame {
  const end = parseAddress(address)!;
  const flow = { sourceMac: 2, destinationMac: 4, source: end, destination: end, protocol: Protocol.tcp };
  const header = new FlowHeader(flow);
  const bytes = header.frame(20 + data.length);
  bytes.fill(0, header.transportAt, header.transportAt + 20);
  put32(bytes, header.transportAt + 4, 0xfffff000);
  bytes[header.transportAt + 12] = 5 << 4;
  bytes[header.transportAt + 13] = flags;
  bytes.set(data, header.transportAt + 20);
  return { ...header.finish(bytes, 16, ALL_OFFLOADS), segmentBytes };
}

const addresses = fc.constantFrom("10.0.0.1", "2001:db8::1");

test("whoever takes unfinished frames gets them as they are", () => {
  const frame = unfinished(new Uint8Array(5000), "10.0.0.1", TcpFlag.ack, 1460);
  assert.deepEqual(finishFor(frame, ALL_OFFLOADS), [frame]);
});

test("a checksum is filled in, and the sender's frame stays as it was", () => {
  const frame = unfinished(new Uint8Array(50), "10.0.0.1", TcpFlag.ack, 0);
  const before = frame.bytes.slice();
  const [whole] = finishFor(frame, NO_OFFLOADS);
  assert.ok(checksumHolds(parseIp(whole.bytes)!));
  assert.deepEqual(Uint8Array.from(frame.bytes), Uint8Array.from(before));
});

test("segments together say what the large packet said", () => {
  const flags = TcpFlag.ack | TcpFlag.psh | TcpFlag.fin | 0x80;
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 6000 }),
      addresses,
      fc.integer({ min: 100, max: 2000 }),
      (data, address, size) => {
        const cut = finishFor(unfinished(data, address, flags, size), NO_OFFLOADS);
        assert.equal(cut.length, Math.ceil(data.length / size));
        const segments = cut.map(({ bytes, segmentBytes }) => {
          const packet = parseIp(bytes)!;
          assert.equal(segmentBytes, 0);
          assert.ok(checksumHolds(packet));
          return parseTcp(packet)!;
        });
        assert.deepEqual(Uint8Array.from(Buffer.concat(segments.map(({ payload }) => payload))), data);
        segments.forEach(({ seq, flags: own }, n) => {
          assert.equal(seq, (0xfffff000 + n * size) >>> 0);
          assert.equal((own & TcpFlag.fin) !== 0, n === segments.length - 1);
          assert.equal((own & 0x80) !== 0, n === 0);
        });
      },
    ),
  );
});

test("what cannot be finished is nothing: too many segments, or no TCP", () => {
  assert.deepEqual(finishFor(unfinished(new Uint8Array(5000), "10.0.0.1", 0, 1), NO_OFFLOADS), []);
  const frame = unfinished(new Uint8Array(50), "10.0.0.1", 0, 20);
  const udp = frame.bytes.slice();
  udp[23] = Protocol.udp;
  udp[24]++;
  assert.deepEqual(finishFor({ ...frame, bytes: udp }, NO_OFFLOADS), []);
});

test("no bytes make it throw", () => {
  const start = unfinished(new Uint8Array(200), "10.0.0.1", 0, 50);
  const changes = fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 });
  fc.assert(
    fc.property(changes, fc.nat(254), fc.nat(0xffff), (changed, length, segmentBytes) => {
      const bytes = start.bytes.slice(0, length);
      for (const [at, value] of changed) if (at < length) bytes[at] = value;
      for (const frame of finishFor({ bytes, checksum: "blank", segmentBytes }, NO_OFFLOADS))
        assert.ok(frame.bytes.length <= length);
    }),
    { numRuns: 2000 },
  );
});
