import type { Callee, Func, ModuleBuilder } from "@xenoserver/wasm";
import type { MemoryLayout } from "../state/layout.ts";
import { defineCodeWritten, defineHoldsCode } from "./code-watch.ts";
import { defineDropAllWriteEntries, defineDropWriteEntries, defineFlushTlb, defineFlushTlbPage } from "./flush.ts";
import { defineLinkRegion } from "./link.ts";
import { defineEmptyRegionCaches } from "./region-cache.ts";
import { defineCommitBounce, defineSlowRead, defineSlowStore, defineSlowWrite } from "./slow-access.ts";
import { defineBeginSplit, defineChangeSplit } from "./split-lock.ts";
import { defineFillItlb, defineTranslate, defineTranslateCode } from "./translate.ts";
import { defineFrameHost, definePageFault, defineWalk } from "./walk.ts";

/** Functions of the memory-management unit, in the engine's module. */
export interface Mmu {
  /** (vb, va, access) → host address, 0 after a fault or an MMIO request. */
  readonly translate: Func;
  /** (vb, va) → gpa, or −1 after a fault; for execution. Does not fill the data TLB. */
  readonly translateCode: Func;
  /** (vb, page) → 1 if the ITLB now has the page, 0 if the host program must see to it. */
  readonly fillItlb: Func;
  /** (vb, va, record) → place of a region that can be entered there, or 0. */
  readonly linkRegion: Func;
  readonly slowRead: Func;
  readonly slowWrite: Func;
  readonly slowStore: Func;
  readonly commitBounce: Func;
  /** Locked operations that are not aligned, see split-lock.ts. */
  readonly beginSplit: Func;
  readonly changeSplit: Func;
  readonly flushTlb: Func;
  readonly flushTlbPage: Func;
  readonly dropWriteEntries: Func;
  /** (vb): every page's next store takes the slow path. */
  readonly dropAllWriteEntries: Func;
  /** (vb): every region is looked for anew. */
  readonly emptyRegionCaches: Func;
}

export interface MmuImports {
  /** (frame, offset, size): translated code is about to be overwritten. */
  readonly codeModified: Callee;
  /** (frame): its contents are elsewhere, and wanted. */
  readonly fetchFrame: Callee;
  /** (vaLo, vaHi, size, isWrite) → 1 after a fault: an access while `State.slowAccess` asks to see each. */
  readonly accessed: Callee;
  /** (gpaLo, gpaHi, size, valueLo, valueHi): a store to a page without a frame. */
  readonly mmioWrite: Callee;
}

/** Adds the memory-management unit to a module. */
export function defineMmu(m: ModuleBuilder, layout: MemoryLayout, imports: MmuImports): Mmu {
  const frameHost = defineFrameHost(m, layout, imports.fetchFrame);
  const walk = defineWalk(m, layout, frameHost, definePageFault(m));
  const holdsCode = defineHoldsCode(m, layout);
  const codeWritten = defineCodeWritten(m, layout, imports, holdsCode);
  const translate = defineTranslate(m, layout, walk, frameHost);
  const fillItlb = defineFillItlb(m, layout, walk, frameHost);
  const slowWrite = defineSlowWrite(m, imports, translate, codeWritten);
  const slowRead = defineSlowRead(m, imports, translate);
  const commitBounce = defineCommitBounce(m, translate, codeWritten);
  return {
    translate,
    translateCode: defineTranslateCode(m, walk),
    fillItlb,
    linkRegion: defineLinkRegion(m, fillItlb),
    slowRead,
    slowWrite,
    commitBounce,
    beginSplit: defineBeginSplit(m, translate),
    changeSplit: defineChangeSplit(m, commitBounce),
    slowStore: defineSlowStore(m, imports, slowWrite, commitBounce),
    flushTlb: defineFlushTlb(m),
    flushTlbPage: defineFlushTlbPage(m),
    dropWriteEntries: defineDropWriteEntries(m, layout),
    dropAllWriteEntries: defineDropAllWriteEntries(m),
    emptyRegionCaches: defineEmptyRegionCaches(m),
  };
}
