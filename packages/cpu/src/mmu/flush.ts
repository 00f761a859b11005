import { type Fn, type Func, type I32, type I64, i32, i64, type ModuleBuilder } from "@xenoserver/wasm";
import {
  EMPTY_TLB_SET,
  ITLB_BYTES,
  ITLB_ENTRIES,
  ITLB_ENTRY_BYTES,
  ITLB_OFFSET,
  Itlb,
  RegionCacheUse,
  TLB_BYTES,
  TLB_ENTRIES,
  TLB_ENTRY_BYTES,
  TLB_FLAG_GLOBAL,
  TLB_OFFSET,
  TLB_SETS,
  Tlb,
} from "../state/layout.ts";
import { emitCachesOfPage, emitEmptyRegionCaches } from "./region-cache.ts";

/**
 * (vb, keepGlobal): empties the TLBs. Only the supervisor's sets keep global entries: the others hold user pages, or the few
 * entries through which the kernel reaches them.
 */
export function defineFlushTlb(m: ModuleBuilder, tlbOffset: number): Func {
  const func = m.func(["i32", "i32"], [], "flushTlb");
  const f = func.fn;
  const [vb, keep] = [f.param<"i32">(0), f.param<"i32">(1)];
  const empty = (offset: number, bytes: number) => f.memoryFill(vb.add(offset), i32(0xff), i32(bytes));
  const local = RegionCacheUse.user | RegionCacheUse.kernelLocal;
  emitEmptyRegionCaches(f, vb, f.select(keep, i32(local), i32(-1)));
  empty(tlbOffset, TLB_BYTES);
  empty(tlbOffset + 2 * TLB_BYTES, TLB_BYTES);
  empty(ITLB_OFFSET + ITLB_BYTES, ITLB_BYTES);
  f.if(keep.eqz(), () => {
    empty(tlbOffset + TLB_BYTES, TLB_BYTES);
    empty(tlbOffset + EMPTY_TLB_SET * TLB_BYTES, TLB_BYTES);
    empty(ITLB_OFFSET, ITLB_BYTES);
    f.return();
  });
  const entry = f.var("i32", vb.add(tlbOffset + TLB_BYTES));
  const sweep = (bytes: number, size: number, isGlobal: () => I32, drop: () => void) => {
    const end = f.let(entry.get().add(bytes));
    f.while(
      () => entry.get().ltU(end),
      () => {
        f.if(isGlobal().eqz(), drop);
        entry.set(entry.get().add(size));
      },
    );
  };
  sweep(
    TLB_BYTES,
    TLB_ENTRY_BYTES,
    () => f.load<"i32">("i32.load", entry.get(), Tlb.flags).and(TLB_FLAG_GLOBAL),
    () => {
      f.store("i64.store", entry.get(), i64(-1), Tlb.read);
      f.store("i64.store", entry.get(), i64(-1), Tlb.write);
    },
  );
  entry.set(vb.add(ITLB_OFFSET));
  sweep(
    ITLB_BYTES,
    ITLB_ENTRY_BYTES,
    () => f.load<"i32">("i32.load", entry.get(), Itlb.frame).shrU(31),
    () => f.store("i64.store", entry.get(), i64(-1), Itlb.tag),
  );
  return func;
}

/** (vb, va): forgets the translation of a page of 4 KiB, for data and for execution. */
export function defineFlushTlbPage(m: ModuleBuilder): Func {
  const func = m.func(["i32", "i64"], [], "flushTlbPage");
  emitFlushPage(func.fn, func.fn.param(0), func.fn.param(1));
  return func;
}

/** Emits the forgetting of a page's translation. */
export function emitFlushPage(f: Fn, vb: I32, va: I64): void {
  emitEmptyRegionCaches(f, vb, emitCachesOfPage(f, vb, va));
  const entry = (shift: number, entries: number, bytes: number): I32 =>
    f.let(
      va
        .shrU(shift)
        .wrap()
        .and((entries - 1) * bytes)
        .add(vb),
    );
  const slot = entry(12 - Math.log2(TLB_ENTRY_BYTES), TLB_ENTRIES, TLB_ENTRY_BYTES);
  for (let set = 0; set < TLB_SETS; set++) {
    const offset = TLB_OFFSET + set * TLB_BYTES;
    f.store("i64.store", slot, i64(-1), offset + Tlb.read);
    f.store("i64.store", slot, i64(-1), offset + Tlb.write);
  }
  const code = entry(12 - Math.log2(ITLB_ENTRY_BYTES), ITLB_ENTRIES, ITLB_ENTRY_BYTES);
  for (const offset of [ITLB_OFFSET, ITLB_OFFSET + ITLB_BYTES]) f.store("i64.store", code, i64(-1), offset + Itlb.tag);
}

/** (vb, frameHost) → 1 if it was so: forgets that a frame may be written directly, since somebody has code from it now. */
export function defineDropWriteEntries(m: ModuleBuilder, tlbOffset: number): Func {
  const func = m.func(["i32", "i32"], ["i32"], "dropWriteEntries");
  const f = func.fn;
  const frame = f.param<"i32">(1);
  const found = f.var("i32", i32(0));
  const entry = f.var("i32", f.param<"i32">(0).add(tlbOffset));
  const end = f.let(entry.get().add(TLB_SETS * TLB_ENTRIES * 32));
  f.while(
    () => entry.get().ltU(end),
    () => {
      const tag = f.let(f.load<"i64">("i64.load", entry.get(), Tlb.write));
      const host = f.load<"i32">("i32.load", entry.get(), Tlb.addend).add(tag.wrap());
      f.if(tag.ne(-1).and(host.eq(frame)), () => {
        f.store("i64.store", entry.get(), i64(-1), Tlb.write);
        found.set(i32(1));
      });
      entry.set(entry.get().add(32));
    },
  );
  f.return(found.get());
  f.unreachable();
  return func;
}

/** (vb): forgets that any page may be written directly, as when a round of logging begins. */
export function defineDropAllWriteEntries(m: ModuleBuilder, tlbOffset: number): Func {
  const func = m.func(["i32"], [], "dropAllWriteEntries");
  const f = func.fn;
  const entry = f.var("i32", f.param<"i32">(0).add(tlbOffset));
  const end = f.let(entry.get().add(TLB_SETS * TLB_BYTES));
  f.while(
    () => entry.get().ltU(end),
    () => {
      f.store("i64.store", entry.get(), i64(-1), Tlb.write);
      entry.set(entry.get().add(TLB_ENTRY_BYTES));
    },
  );
  return func;
}
