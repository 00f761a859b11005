import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { I32, I64 } from "@xenoserver/wasm";
import { EMPTY_TLB_SET, layOutMemory, TLB_BYTES, TLB_ENTRIES, TLB_OFFSET, Tlb } from "../state/layout.ts";
import { areaModule, instantiated, VB } from "../testing/area-module.ts";
import { defineDropAllWriteEntries, defineDropWriteEntries, defineFlushTlb, defineFlushTlbPage } from "./flush.ts";
import { emitTlbLookup, tlbEntryOffset, tlbTag } from "./tlb.ts";

/** But the one that is never filled. */
const SETS = Array.from({ length: EMPTY_TLB_SET }, (_, set) => VB + TLB_OFFSET + set * TLB_BYTES);
const HIGH = 0xffff_8880_0000_0000n;
/** Bytes that a set has entries for. */
const REACH = BigInt(TLB_ENTRIES) * 4096n;
/** One page for each entry, at both ends of where addresses can be, and what no address can be. */
const PLACES = [0n, 0x7fff_ff00_0000n, HIGH, 0xffff_ffff_ff00_0000n, 0x8080_8080_8000_0000n];
const EVERY_PAGE = PLACES.flatMap((place) => Array.from({ length: TLB_ENTRIES }, (_, k) => place + BigInt(k) * 4096n));

interface Tables {
  flushTlb(vb: number, keepGlobal: number): void;
  flushTlbPage(vb: number, va: bigint): void;
  dropWriteEntries(vb: number, frame: number): number;
  dropAllWriteEntries(vb: number): void;
  fill(tlb: number, page: bigint): void;
  matches(tlb: number, at: bigint, isWrite: number, isWide: number): number;
}

/** The TLBs of one vcpu and what empties them, without anything else. */
function tables(): Tables {
  const m = areaModule();
  defineFlushTlb(m);
  defineFlushTlbPage(m);
  defineDropWriteEntries(m, layOutMemory(1, 1));
  defineDropAllWriteEntries(m);
  const fill = m.func(["i32", "i64"], [], "fill");
  const page = fill.fn.param<"i64">(1);
  const entry = fill.fn.let(fill.fn.param<"i32">(0).add(tlbEntryOffset(page)));
  for (const tag of [Tlb.read, Tlb.write]) fill.fn.store("i64.store", entry, tlbTag(page), tag);
  const matches = m.func(["i32", "i64", "i32", "i32"], ["i32"], "matches");
  const f = matches.fn;
  const [set, at] = [f.param<"i32">(0) as I32, f.param<"i64">(1) as I64];
  for (const [isWrite, tag] of [Tlb.read, Tlb.write].entries())
    for (const [isWide, size] of [1, 8].entries())
      f.if(f.param<"i32">(2).eq(isWrite).and(f.param<"i32">(3).eq(isWide)), () =>
        f.return(emitTlbLookup({ f, tlbBase: () => set }, at, size, tag).matches),
      );
  f.unreachable();
  const { functions: tlb } = instantiated<Tables>(m);
  tlb.flushTlb(VB, 0);
  return tlb;
}

/** Where a set has something that it should not have, of all pages. */
function found(tlb: Tables, isWrite: 0 | 1): bigint[] {
  const ends = (page: bigint) => [page, page + 1n, page + 4088n, page + 4095n];
  const all = SETS.flatMap((set) => EVERY_PAGE.flatMap(ends).filter((at) => tlb.matches(set, at, isWrite, 0)));
  return [...new Set(all)];
}
const fillAll = (tlb: Tables, place: bigint): void => {
  for (const set of SETS) for (let k = 0; k < TLB_ENTRIES; k++) tlb.fill(set, place + BigInt(k) * 4096n);
};

describe("a TLB", () => {
  it("has an access that lies in its page, and none that leaves it", () => {
    const tlb = tables();
    for (const page of [0n, 0x1000n, HIGH, 0xffff_ffff_ffff_f000n]) {
      tlb.flushTlb(VB, 0);
      tlb.fill(SETS[0], page);
      for (const at of [0n, 1n, 4087n, 4088n]) assert.equal(tlb.matches(SETS[0], page + at, 0, 1), 1, `${page + at}`);
      for (const at of [4089n, 4095n]) assert.equal(tlb.matches(SETS[0], page + at, 0, 1), 0, `${page + at}`);
      for (const at of [-8n, -1n, 4096n, REACH])
        assert.equal(tlb.matches(SETS[0], BigInt.asUintN(64, page + at), 0, 0), 0, `${page} and ${at}`);
      assert.equal(tlb.matches(SETS[0], page + 4095n, 1, 0), 1);
    }
  });

  it("has nothing when it was emptied, wherever it was filled from", () => {
    const tlb = tables();
    assert.deepEqual(found(tlb, 0), []);
    for (const place of PLACES) {
      fillAll(tlb, place);
      assert.notDeepEqual(found(tlb, 1), []);
      tlb.flushTlb(VB, 0);
      assert.deepEqual([found(tlb, 0), found(tlb, 1)], [[], []]);
    }
  });

  it("has nothing for writing when those entries were dropped, once or all, however often", () => {
    const tlb = tables();
    for (const place of PLACES) {
      fillAll(tlb, place);
      tlb.dropAllWriteEntries(VB);
      assert.deepEqual(found(tlb, 1), []);
      tlb.flushTlb(VB, 0);
    }
    // With an addend of 0 each entry is that of the frame with its page's address.
    for (let frame = 0; frame < TLB_ENTRIES + 8; frame++) tlb.dropWriteEntries(VB, frame);
    for (let round = 0; round < 2; round++)
      for (const first of [0, TLB_ENTRIES - 8, 2 * TLB_ENTRIES - 8])
        for (let frame = first; frame < first + 16; frame++) tlb.dropWriteEntries(VB, frame);
    assert.deepEqual(found(tlb, 1), []);
  });

  it("has no page that was dropped, and all others", () => {
    const tlb = tables();
    for (const page of [0n, 0x1000n, REACH - 4096n, HIGH + REACH]) {
      fillAll(tlb, page & ~(REACH - 1n));
      tlb.flushTlbPage(VB, page + 5n);
      const left = EVERY_PAGE.filter(
        (at) => at / REACH === page / REACH && SETS.some((set) => tlb.matches(set, at, 0, 0)),
      );
      assert.equal(
        left.length,
        EVERY_PAGE.filter((at) => at / REACH === page / REACH).length - +EVERY_PAGE.includes(page),
      );
      assert.ok(!found(tlb, 0).includes(page));
      tlb.flushTlb(VB, 0);
    }
  });
});
