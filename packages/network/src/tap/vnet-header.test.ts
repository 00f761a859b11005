import assert from "node:assert/strict";
import { test } from "node:test";
import { ALL_OFFLOADS, type Frame } from "@xenoserver/devices/net/frames.ts";
import fc from "fast-check";
import { parseAddress } from "../wire/address.ts";
import { FlowHeader } from "../wire/flow-header.ts";
import { Protocol, parseIp } from "../wire/ip.ts";
import { parseTcp, TCP_BYTES } from "../wire/tcp.ts";
import { checksumHolds } from "../wire/transport.ts";
import { framesOf, VNET_HEADER_BYTES, VnetFlag, VnetGso, vnetHeaderOf } from "./vnet-header.ts";

const TAG = Buffer.from("81000007", "hex");

/** A TCP packet whose checksum is blank. */
function unfinished(address: string, dataBytes: number, segmentBytes: number): Frame {
  const end = parseAddress(address)!;
  const flow = { sourceMac: 2, destinationMac: 4, source: end, destination: end, protocol: Protocol.tcp };
  const header = new FlowHeader(flow);
  const bytes = header.frame(TCP_BYTES + dataBytes);
  bytes.fill(7, header.transportAt);
  bytes[header.transportAt + 12] = 5 << 4;
  return { ...header.finish(bytes, 16, ALL_OFFLOADS), segmentBytes };
}

const given = (header: Uint8Array, bytes: Uint8Array): Uint8Array => Uint8Array.from(Buffer.concat([header, bytes]));
const u16At = (header: Uint8Array, at: number): number => header[at] | (header[at + 1] << 8);

test("a finished frame's header says nothing", () => {
  const header = vnetHeaderOf({ bytes: new Uint8Array(60), checksum: "full", segmentBytes: 0 });
  assert.deepEqual(header, new Uint8Array(VNET_HEADER_BYTES));
});

for (const [address, gso, headerBytes] of [
  ["10.0.0.1", VnetGso.tcpv4, 14 + 20],
  ["2001:db8::1", VnetGso.tcpv6, 14 + 40],
] as const) {
  test(`what is left to be done is said, and read again: ${address}`, () => {
    for (const segmentBytes of [0, 1000]) {
      const frame = unfinished(address, 4000, segmentBytes);
      const header = vnetHeaderOf(frame)!;
      assert.equal(header[0], VnetFlag.needs_csum);
      assert.deepEqual([u16At(header, 6), u16At(header, 8)], [headerBytes, 16]);
      if (segmentBytes > 0)
        assert.deepEqual([header[1], u16At(header, 2), u16At(header, 4)], [gso, headerBytes + TCP_BYTES, 1000]);
      const [read, ...more] = framesOf(given(header, frame.bytes));
      assert.deepEqual(more, []);
      assert.deepEqual({ ...read, bytes: Buffer.from(read.bytes) }, { ...frame, bytes: Buffer.from(frame.bytes) });
    }
  });
}

test("what contradicts itself is not passed on", () => {
  const tcp = unfinished("10.0.0.1", 100, 50);
  const changed = (at: number, value: number): Frame => {
    const bytes = tcp.bytes.slice();
    bytes[at] = value;
    return { ...tcp, bytes };
  };
  assert.equal(vnetHeaderOf(changed(14 + 20 + 12, 0xf0))?.[0], VnetFlag.needs_csum);
  assert.equal(vnetHeaderOf(changed(14 + 20 + 12, 0x40)), undefined);
  assert.equal(vnetHeaderOf({ ...unfinished("10.0.0.1", 0, 50), bytes: tcp.bytes.subarray(0, 40) }), undefined);
  const long = unfinished("10.0.0.1", 10, 50);
  long.bytes[14 + 20 + 12] = 0xf0;
  assert.equal(vnetHeaderOf(long), undefined);
  assert.equal(vnetHeaderOf({ bytes: new Uint8Array(60), checksum: "blank", segmentBytes: 0 }), undefined);
});

test("the kernel's word on checksums is passed on", () => {
  const header = new Uint8Array(VNET_HEADER_BYTES);
  assert.equal(framesOf(given(header, new Uint8Array(60)))[0].checksum, "full");
  header[0] = VnetFlag.data_valid;
  assert.equal(framesOf(given(header, new Uint8Array(60)))[0].checksum, "verified");
});

test("unfinished frames with a tag are finished, and have it still", () => {
  const frame = unfinished("10.0.0.1", 2500, 1000);
  const header = vnetHeaderOf(frame)!.slice();
  header[6] += TAG.length;
  const tagged = Buffer.concat([frame.bytes.subarray(0, 12), TAG, frame.bytes.subarray(12)]);
  const frames = framesOf(given(header, tagged));
  assert.equal(frames.length, 3);
  const data = frames.map(({ bytes, checksum, segmentBytes }) => {
    assert.deepEqual([checksum, segmentBytes], ["verified", 0]);
    assert.deepEqual(Buffer.from(bytes.subarray(12, 16)), TAG);
    const packet = parseIp(Buffer.concat([bytes.subarray(0, 12), bytes.subarray(16)]))!;
    assert.ok(checksumHolds(packet));
    return parseTcp(packet)!.payload;
  });
  assert.deepEqual(Buffer.concat(data), Buffer.alloc(2500, 7));
});

test("a sum within a tunnel's packet is filled in", () => {
  const whole = unfinished("10.0.0.1", 60, 0).bytes;
  const inner = unfinished("10.9.9.9", 20, 0);
  const header = vnetHeaderOf(inner)!.slice();
  const at = whole.length - inner.bytes.length;
  whole.set(inner.bytes, at);
  header[6] += at;
  const [frame] = framesOf(given(header, whole));
  assert.equal(frame.checksum, "full");
  assert.ok(checksumHolds(parseIp(frame.bytes.subarray(at))!));
});

test("no bytes make it throw", () => {
  const start = unfinished("10.0.0.1", 200, 50);
  const head = vnetHeaderOf(start)!;
  const changes = fc.array(fc.tuple(fc.nat(70), fc.nat(255)), { maxLength: 4 });
  fc.assert(
    fc.property(changes, fc.integer({ min: 14, max: 254 }), (changed, length) => {
      const bytes = given(head, start.bytes.slice(0, length));
      for (const [at, value] of changed) if (at < bytes.length) bytes[at] = value;
      for (const frame of framesOf(bytes)) {
        vnetHeaderOf(frame);
        assert.ok(frame.bytes.length <= length);
      }
    }),
    { numRuns: 2000 },
  );
});
