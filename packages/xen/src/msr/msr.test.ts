import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { Gpa } from "@xenoserver/cpu";
import fc from "fast-check";
import { LocalApic } from "../apic/local-apic.ts";
import { TestDomain } from "../testing/test-domain.ts";
import { FakeClock } from "../time/clock.ts";
import { Msrs } from "./msrs.ts";

let guest: TestDomain;
let msrs: Msrs;
let is64: boolean;
beforeEach(() => {
  guest = new TestDomain({ nrVcpus: 1 });
  is64 = true;
  const record = guest.domain.vcpus[0];
  msrs = new Msrs(guest.domain, record, new LocalApic(guest.domain, record, new FakeClock()), () => is64);
});

test("the hypercall page has a stub for each number, the same code for both word sizes", () => {
  assert.ok(msrs.write(0x40000000, 0x300000, 0));
  const stub = new Uint8Array(9);
  guest.memory.read((0x300000 + 29 * 32) as Gpa, stub);
  assert.deepEqual([...stub], [0xb8, 29, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3]);
  guest.memory.read((0x300000 + 23 * 32) as Gpa, stub);
  assert.deepEqual([...stub.subarray(0, 2)], [0x0f, 0x0b], "iret is for PV guests");
});

test("a hypercall page where there is no RAM, or another than the first, is #GP", () => {
  assert.equal(msrs.write(0x40000000, 0xb0000, 0), false);
  assert.equal(msrs.write(0x40000000, 0x300001, 0), false);
  assert.equal(msrs.write(0x40000000, 0x300000, 1), false);
  assert.equal(msrs.read(0x40000000), undefined);
});

test("memory type ranges start as write-back and keep what is written", () => {
  assert.deepEqual(msrs.read(0x2ff), { lo: 0x806, hi: 0 });
  assert.deepEqual(msrs.read(0xfe), { lo: 0x508, hi: 0 });
  assert.ok(msrs.write(0x201, 0x800, 0x7f));
  assert.deepEqual(msrs.read(0x201), { lo: 0x800, hi: 0x7f });
  assert.equal(msrs.write(0x2ff, 0x1000, 0), false);
  assert.equal(msrs.write(0xfe, 0, 0), false);
});

test("what an Intel kernel reads at start is there; the rest is #GP", () => {
  assert.deepEqual(msrs.read(0x1b), { lo: 0xfee00900, hi: 0 });
  for (const index of [0x17, 0x3a, 0x8b, 0x1a0]) assert.ok(msrs.read(index), index.toString(16));
  for (const index of [0x48, 0x10a, 0x122, 0x140, 0xce, 0xc0011029]) assert.equal(msrs.read(index), undefined);
});

test("any index and any value are answered without a throw", () => {
  const index = fc.oneof(
    fc.nat(0xffffffff),
    fc.integer({ min: 0x800, max: 0x8ff }),
    fc.integer({ min: 0x200, max: 0x2ff }),
  );
  fc.assert(
    fc.property(index, fc.nat(0xffffffff), fc.nat(0xffffffff), (n, lo, hi) => {
      msrs.read(n);
      msrs.write(n, lo, hi);
    }),
    { numRuns: 2000 },
  );
});
