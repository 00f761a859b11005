import { type Fn, type Func, type I32, type I64, i32, i64, type ModuleBuilder } from "@xenoserver/wasm";
import {
  EMPTY_TLB_SET,
  EmptyTlbTag,
  ITLB_BYTES,
  ITLB_ENTRIES,
  ITLB_ENTRY_BYTES,
  ITLB_OFFSET,
  Itlb,
  type MemoryLayout,
  RegionCacheUse,
  State,
  TLB_BYTES,
  TLB_ENTRY_BYTES,
  TLB_FLAG_GLOBAL,
  TLB_OFFSET,
  TLB_SETS,
  Tlb,
} from "../state/layout.ts";
import { emitCachesOfPage, emitClearRegionCaches, emitEmptyRegionCaches } from "./region-cache.ts";
import { emitEmptyTlb, emptyTlbTag, pageOfTlbTag, tlbEntryOffset } from "./tlb.ts";
import { emitEachUsed, ITLB_GROUP_BYTES, TLB_GROUP_BYTES } from "./used-groups.ts";

/**
 * (vb, keepGlobal): empties the TLBs. Only the supervisor's sets keep global entries: the others hold user pages, or the few
 * entries through which the kernel reaches them.
 */
export function defineFlushTlb(m: ModuleBuilder): Func {
  const func = m.func(["i32", "i32"], [], "flushTlb");
  const f = func.fn;
  const [vb, keep] = [f.param<"i32">(0), f.param<"i32">(1)];
  f.if(keep.eqz(), () => {
    emitClearRegionCaches(f, vb);
    for (let set = 0; set < TLB_SETS; set++) emitEmptyTlb(f, f.let(vb.add(TLB_OFFSET + set * TLB_BYTES)), TLB_BYTES);
    f.memoryFill(vb.add(ITLB_OFFSET), i32(0xff), i32(2 * ITLB_BYTES));
    for (const used of [0, 8, 16]) f.store("i64.store", vb, i64(0), State.tlbUsed + used);
    for (const used of [0, 8]) f.store("i64.store", vb, i64(0), State.itlbUsed + used);
    f.return();
  });
  emitEmptyRegionCaches(f, vb, i32(RegionCacheUse.user | RegionCacheUse.kernelLocal));
  for (const set of [0, 2])
    emitEachUsed(f, vb, State.tlbUsed + set * 8, tlbSet(set), (group) => emitEmptyTlb(f, group, TLB_GROUP_BYTES));
  emitEachUsed(f, vb, State.itlbUsed + 8, itlbSet(1), (group) => f.memoryFill(group, i32(0xff), i32(ITLB_GROUP_BYTES)));
  emitEachUsed(f, vb, State.tlbUsed + 8, tlbSet(1), (group) => {
    for (let at = 0; at < TLB_GROUP_BYTES; at += TLB_ENTRY_BYTES) {
      const isGlobal = f.load<"i32">("i32.load", group, at + Tlb.flags).and(TLB_FLAG_GLOBAL);
      const none = i64(at === 0 ? EmptyTlbTag.first : EmptyTlbTag.others);
      f.if(isGlobal.eqz(), () => {
        f.store("i64.store", group, none, at + Tlb.read);
        f.store("i64.store", group, none, at + Tlb.write);
      });
    }
  });
  emitEachUsed(f, vb, State.itlbUsed, itlbSet(0), (group) => {
    for (let at = 0; at < ITLB_GROUP_BYTES; at += ITLB_ENTRY_BYTES) {
      const isGlobal = f.load<"i32">("i32.load", group, at + Itlb.frame).shrU(31);
      f.if(isGlobal.eqz(), () => f.store("i64.store", group, i64(-1), at + Itlb.tag));
    }
  });
  return func;
}
const tlbSet = (set: number) => ({ offset: TLB_OFFSET + set * TLB_BYTES, groupBytes: TLB_GROUP_BYTES });
const itlbSet = (set: number) => ({ offset: ITLB_OFFSET + set * ITLB_BYTES, groupBytes: ITLB_GROUP_BYTES });

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
  const offset = f.let(tlbEntryOffset(va));
  const slot = f.let(offset.add(vb));
  const none = f.let(emptyTlbTag(offset));
  for (let set = 0; set < TLB_SETS; set++) {
    const at = TLB_OFFSET + set * TLB_BYTES;
    f.store("i64.store", slot, none, at + Tlb.read);
    f.store("i64.store", slot, none, at + Tlb.write);
  }
  const code = entry(12 - Math.log2(ITLB_ENTRY_BYTES), ITLB_ENTRIES, ITLB_ENTRY_BYTES);
  for (const offset of [ITLB_OFFSET, ITLB_OFFSET + ITLB_BYTES]) f.store("i64.store", code, i64(-1), offset + Itlb.tag);
}

/** (vb, frame) → 1 if it was so: forgets that a frame may be written directly, since somebody has code from it now. */
export function defineDropWriteEntries(m: ModuleBuilder, layout: MemoryLayout): Func {
  const func = m.func(["i32", "i32"], ["i32"], "dropWriteEntries");
  const f = func.fn;
  const frame = f.let(f.address(f.param<"i32">(1)).shl(12).add(layout.framesOffset));
  const found = f.var("i32", i32(0));
  const first = f.let(f.param<"i32">(0).add(TLB_OFFSET));
  const entry = f.var("i32", first);
  const end = f.let(entry.get().add(EMPTY_TLB_SET * TLB_BYTES));
  f.while(
    () => entry.get().ltU(end),
    () => {
      const tag = f.let(f.load<"i64">("i64.load", entry.get(), Tlb.write));
      const host = f.loadAddress(entry.get(), Tlb.addend).add(f.address(pageOfTlbTag(tag)));
      f.if(tag.ne(EmptyTlbTag.others).and(host.eq(frame)), () => {
        f.store("i64.store", entry.get(), emptyTlbTag(entry.get().sub(first)), Tlb.write);
        found.set(i32(1));
      });
      entry.set(entry.get().add(TLB_ENTRY_BYTES));
    },
  );
  f.return(found.get());
  f.unreachable();
  return func;
}

/** (vb): forgets that any page may be written directly, as when a round of logging begins. */
export function defineDropAllWriteEntries(m: ModuleBuilder): Func {
  const func = m.func(["i32"], [], "dropAllWriteEntries");
  const f = func.fn;
  const first = f.let(f.param<"i32">(0).add(TLB_OFFSET));
  const entry = f.var("i32", first);
  const end = f.let(entry.get().add(EMPTY_TLB_SET * TLB_BYTES));
  f.while(
    () => entry.get().ltU(end),
    () => {
      f.store("i64.store", entry.get(), emptyTlbTag(entry.get().sub(first)), Tlb.write);
      entry.set(entry.get().add(TLB_ENTRY_BYTES));
    },
  );
  return func;
}
