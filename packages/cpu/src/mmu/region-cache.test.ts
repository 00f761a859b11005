import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type I32, type I64, i32 } from "@xenoserver/wasm";
import {
  MAX_REGION_NOTES,
  REGION_CACHE_HALF_BYTES,
  REGION_CACHE_OFFSET,
  RegionCacheUse,
  State,
} from "../state/layout.ts";
import { areaModule, instantiated, VB } from "../testing/area-module.ts";
import { emitClearRegionCaches, emitEmptyRegionCaches, emitEnterRegion, emitFindRegion } from "./region-cache.ts";

const BASES = { user: 0x40_0000n, kernel: 0xffff_ffff_8100_0000n } as const;
type Half = keyof typeof BASES;

interface Caches {
  clear(vb: number): void;
  empty(vb: number, which: number): void;
  enter(vb: number, at: bigint, place: number, isGlobal: number): void;
  find(vb: number, at: bigint): number;
}

/** The region caches of one vcpu without anything else. */
class TwoCaches {
  readonly #words: Int32Array;
  readonly #exports: Caches;

  constructor() {
    const m = areaModule();
    const clear = m.func(["i32"], [], "clear").fn;
    emitClearRegionCaches(clear, clear.param<"i32">(0));
    const empty = m.func(["i32", "i32"], [], "empty").fn;
    emitEmptyRegionCaches(empty, empty.param<"i32">(0), empty.param<"i32">(1));
    const enter = m.func(["i32", "i64", "i32", "i32"], [], "enter").fn;
    const [place, isGlobal] = [enter.param<"i32">(2) as I32, enter.param<"i32">(3) as I32];
    emitEnterRegion(enter, enter.param<"i32">(0), enter.param<"i64">(1), { place, arrival: i32(0) }, isGlobal);
    const find = m.func(["i32", "i64"], ["i32"], "find").fn;
    const at = find.param<"i64">(1) as I64;
    const found = emitFindRegion(find, find.param<"i32">(0), at);
    find.return(find.select(found.address.eq(at), found.place, i32(0)));
    find.unreachable();
    const { functions, words } = instantiated<Caches>(m);
    this.#words = words;
    this.#exports = functions;
    this.#exports.clear(VB);
  }

  use(half: Half): void {
    this.#words[(VB + State.regionCache) >>> 2] =
      VB + REGION_CACHE_OFFSET + (half === "user" ? 0 : REGION_CACHE_HALF_BYTES);
  }
  enter(half: Half, at: bigint, place: number, isGlobal = 0): void {
    this.use(half);
    this.#exports.enter(VB, at, place, isGlobal);
  }
  find(half: Half, at: bigint): number {
    this.use(half);
    return this.#exports.find(VB, at);
  }
  empty(which: number): void {
    this.#exports.empty(VB, which);
  }
}

/** Addresses one after the other have entries of their own. */
const addresses = (half: Half, count: number): bigint[] =>
  Array.from({ length: count }, (_, k) => BASES[half] + BigInt(k));

describe("region caches", () => {
  for (const count of [1, 60, MAX_REGION_NOTES - 1, MAX_REGION_NOTES, MAX_REGION_NOTES + 1, 3 * MAX_REGION_NOTES]) {
    it(`have ${count} regions until they are emptied, again and again`, () => {
      const caches = new TwoCaches();
      const { user, kernel } = RegionCacheUse;
      for (const half of ["user", "kernel", "user"] as const) {
        const all = addresses(half, count);
        all.forEach((at, k) => caches.enter(half, at, k + 1));
        const other = half === "user" ? "kernel" : "user";
        caches.enter(other, BASES[other], 7);
        assert.deepEqual(
          all.map((at) => caches.find(half, at)),
          all.map((_, k) => k + 1),
        );
        caches.empty(half === "user" ? user : kernel);
        assert.deepEqual(
          all.filter((at) => caches.find(half, at) !== 0),
          [],
        );
        assert.equal(caches.find(other, BASES[other]), 7);
      }
    });
  }

  it("forget what was entered at the place of another", () => {
    const caches = new TwoCaches();
    for (let k = 0; k < 3 * MAX_REGION_NOTES; k++) caches.enter("user", BASES.user, k + 1);
    assert.equal(caches.find("user", BASES.user), 3 * MAX_REGION_NOTES);
    caches.empty(RegionCacheUse.user);
    assert.equal(caches.find("user", BASES.user), 0);
    assert.equal(caches.find("user", BASES.user + 1n), 0);
  });

  it("keep the kernel's global regions when all others go", () => {
    const caches = new TwoCaches();
    caches.enter("kernel", BASES.kernel, 3, 1);
    caches.empty(RegionCacheUse.user | RegionCacheUse.kernelLocal);
    assert.equal(caches.find("kernel", BASES.kernel), 3);
    caches.enter("kernel", BASES.kernel + 64n, 4, 0);
    caches.empty(RegionCacheUse.user | RegionCacheUse.kernelLocal);
    assert.equal(caches.find("kernel", BASES.kernel), 0);
    assert.equal(caches.find("kernel", BASES.kernel + 64n), 0);
  });
});
