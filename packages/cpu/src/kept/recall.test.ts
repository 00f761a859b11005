import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ecx, rbx } from "@xenoserver/testkit";
import { Gpr } from "../engine.ts";
import { Field } from "../interp/record.ts";
import { Slot } from "../state/layout.ts";
import { BareMachine, CODE } from "../testing/bare-machine.ts";
import { EarlierRun, writeRegions } from "../testing/earlier-run.ts";
import { guest, HALTED } from "../testing/every-mode.ts";
import type { WasmVcpu } from "../wasm-vcpu.ts";
import { areRegions, Described, describeRegions } from "./described.ts";
import { KnownRegions } from "./known-regions.ts";
import { hashPlace } from "./place-hash.ts";

const ROUNDS = 1000;
/** Adds a number to RBX as often as ECX says, by way of a function in the next page. */
const looping = (number: number, origin = CODE) =>
  guest((a) => {
    a.label("again").call("callee").sub(ecx, 1).jcc("ne", "again").hlt();
    a.align(0x1000).label("callee").add(rbx, number).ret();
  }, origin);

const { earlier, expected } = (() => {
  const run = new EarlierRun();
  const m = new BareMachine("always", 1, undefined, run.recording).load(CODE, looping(3)).setGpr(Gpr.rcx, ROUNDS);
  assert.deepEqual(m.run(), HALTED);
  return { earlier: run, expected: m.gpr(Gpr.rbx) };
})();
assert.equal(expected, 3 * ROUNDS);

const laterMachine = (code: Uint8Array, at = CODE): BareMachine =>
  new BareMachine("hot", 1, undefined, earlier.recalling).load(at, code).setGpr(Gpr.rcx, ROUNDS);
const recalledBy = (m: BareMachine): number => (m.vcpu as WasmVcpu).hotSpots.recalled;
const jump = (m: BareMachine, to: number): void => m.machine.setAddress(Slot.rip, to);

describe("what an earlier run translated", () => {
  it("is found where control arrives at the same code", () => {
    const m = laterMachine(looping(3));
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rbx), expected);
    assert.ok(recalledBy(m) > 0);
  });

  it("is found at another address and in other frames", () => {
    const other = CODE + 0x40000;
    const m = laterMachine(looping(3, other), other);
    // The code's second page lies before its first in memory.
    m.memory.write((CODE + 0x10000) as never, looping(3, other).subarray(0x1000));
    m.mapPage(other + 0x1000, CODE + 0x10000);
    m.machine.flushAll();
    jump(m, other);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rbx), expected);
    assert.ok(recalledBy(m) > 0);
  });

  it("is not taken for code that differs in a byte", () => {
    const same = looping(3);
    const other = looping(4);
    const differing = [...same.keys()].filter((k) => same[k] !== other[k]);
    assert.equal(differing.length, 1);
    const m = laterMachine(other);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rbx), 4 * ROUNDS);
  });

  it("goes on in one place when its code in another changes", () => {
    const other = CODE + 0x40000;
    const m = laterMachine(looping(3)).load(other, looping(3, other));
    const rounds = (at: number): number => {
      m.setGpr(Gpr.rbx, 0).setGpr(Gpr.rcx, ROUNDS);
      jump(m, at);
      assert.deepEqual(m.run(), HALTED);
      return m.gpr(Gpr.rbx);
    };
    const placeOf = (at: number): number => {
      const { cache } = m.vcpu as WasmVcpu;
      const record = cache.recordAt(m.memory.frameAt(Math.floor(at / 4096) as never), at % 4096);
      return m.machine.get32(record - m.machine.vb + Field.imm);
    };
    assert.deepEqual([rounds(CODE), rounds(other)], [expected, expected]);
    assert.notEqual(placeOf(CODE), placeOf(other), "what is dropped for one would be gone for the other");
    m.memory.write(CODE as never, looping(5));
    assert.deepEqual([rounds(CODE), rounds(other)], [5 * ROUNDS, expected]);
  });

  it("is left when its code changes, and found again when that is as it was", () => {
    const m = laterMachine(looping(3));
    const rounds = (number: number): number => {
      m.memory.write(CODE as never, looping(number));
      m.setGpr(Gpr.rbx, 0).setGpr(Gpr.rcx, ROUNDS);
      jump(m, CODE);
      assert.deepEqual(m.run(), HALTED);
      return m.gpr(Gpr.rbx);
    };
    for (let k = 0; k < 30; k++) assert.equal(rounds(k % 3 === 2 ? 5 : 3), (k % 3 === 2 ? 5 : 3) * ROUNDS);
    assert.ok(recalledBy(m) > 2, `${recalledBy(m)}`);
  });
});

describe("an index of known regions", () => {
  const regions = describeRegions([
    {
      entries: [
        { distance: 0, frame: 7, offset: 0x123, hash: 5 },
        { distance: -1, frame: 8, offset: 0xff0, hash: 5 },
      ],
      reach: "rest",
      pieces: [
        { distance: 0, frame: 7, start: 0x123, bytes: Uint8Array.of(1, 2, 3) },
        { distance: -1, frame: 8, start: 0xff0, bytes: Uint8Array.of(4, 5) },
      ],
      pages: [
        { distance: 0, frame: 7 },
        { distance: -1, frame: 8 },
      ],
    },
  ]);

  it("gives all with a hash, those of later modules first, and no others", () => {
    const at = [2 ** 33 + 8, 4];
    const known = new KnownRegions(KnownRegions.index(writeRegions([regions, regions]), at));
    const found: [number, number][] = [];
    for (let entry = known.first(5); entry !== 0; entry = known.next(entry))
      found.push([known.addressOf(known.moduleOf(known.regionOf(entry))), known.numberOf(entry)]);
    assert.deepEqual(found, [
      [4, 1],
      [4, 0],
      [2 ** 33 + 8, 1],
      [2 ** 33 + 8, 0],
    ]);
    // In the same bucket.
    assert.equal(known.first(5 + 16), 0);
    assert.equal(new KnownRegions(KnownRegions.index(writeRegions([]), [])).first(5), 0);
  });

  it("takes no description whose lists reach beyond it", () => {
    assert.ok(areRegions(regions));
    assert.ok(!areRegions(regions.subarray(0, regions.length - 1)));
    for (const [word, value] of [
      [Described.length, 3],
      [Described.entries, 1000],
      [Described.pages, 0],
      [Described.pieces, 5],
      [Described.lists, 0x5000],
    ] as const) {
      const damaged = regions.slice();
      damaged[word] = value;
      assert.ok(!areRegions(damaged), `word ${word}`);
    }
  });

  it("tells places apart by offset and bytes, and does not look beyond the page", () => {
    const page = new Uint8Array(8192).map((_, k) => k * 7);
    const before = hashPlace(page, 0, 4090);
    page[4096] ^= 1;
    assert.equal(hashPlace(page, 0, 4090), before);
    page[4095] ^= 1;
    assert.notEqual(hashPlace(page, 0, 4090), before);
    assert.notEqual(hashPlace(page, 0, 0), hashPlace(page, 0, 256));
  });
});
