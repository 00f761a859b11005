import { type Func, i32, i64, type ModuleBuilder } from "@xenoserver/wasm";
import { ARRIVAL_BITS, Field } from "../interp/record.ts";
import { Itlb } from "../state/layout.ts";
import { emitItlbEntry } from "./emit.ts";
import { emitEnterRegion, emitFindRegion, emitNoteRegionPage } from "./region-cache.ts";

/**
 * What a region's entry record leads to (`disp`): two records, from which the interpreter can run the entry's first instruction; then
 * the address of the region's pages, and the arrival that its function is told.
 */
export const EntryInfo = { pages: 32, arrival: 36, bytes: 48 } as const;
/** The pages that a region has code from: their number, and each one's distance from where places count from, and its frame. */
export const RegionPages = { count: 0, first: 8, pageBytes: 8, distance: 0, frame: 4 } as const;
const GLOBAL = 1 << 31;

/**
 * (vb, va, record) → place of the region that `record` enters, for entry at `va`; 0 if a page of it is another one here. Notes the
 * answer in the region cache.
 */
export function defineLinkRegion(m: ModuleBuilder, fillItlb: Func): Func {
  const func = m.func(["i32", "i64", "i32"], ["i32"]);
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const va = f.param<"i64">(1);
  const record = f.param<"i32">(2);
  const place = f.let(f.load<"i32">("i32.load", record, Field.imm));
  const known = emitFindRegion(f, vb, va);
  f.if(known.address.eq(va).and(known.place.eq(place)), () => f.return(place));
  const info = f.let(f.load<"i32">("i32.load", record, Field.disp));
  const arrival = f.let(f.load<"i32">("i32.load", info, EntryInfo.arrival));
  const distance = arrival.shrS(ARRIVAL_BITS);
  const base = f.let(va.and(i64(-4096)).sub(distance.extS().shl(12)));
  const at = f.var("i32", f.load("i32.load", info, EntryInfo.pages));
  const count = f.load<"i32">("i32.load", at.get(), RegionPages.count);
  const end = f.let(at.get().add(count.mul(RegionPages.pageBytes)));
  const allGlobal = f.var("i32", i32(GLOBAL));
  f.while(
    () => at.get().ltU(end),
    () => {
      const distance = f.load<"i32">("i32.load", at.get(), RegionPages.first + RegionPages.distance);
      const page = f.let(base.add(distance.extS().shl(12)));
      const entry = emitItlbEntry(f, vb, page);
      f.if(f.load<"i64">("i64.load", entry, Itlb.tag).ne(page), () =>
        f.if(f.call<"i32">(fillItlb, vb, page).eqz(), () => f.return(i32(0))),
      );
      const frame = f.let(f.load<"i32">("i32.load", entry, Itlb.frame));
      const expected = f.load<"i32">("i32.load", at.get(), RegionPages.first + RegionPages.frame);
      f.if(frame.and(~GLOBAL).ne(expected), () => f.return(i32(0)));
      allGlobal.set(allGlobal.get().and(frame));
      emitNoteRegionPage(f, vb, page);
      at.set(at.get().add(RegionPages.pageBytes));
    },
  );
  emitEnterRegion(f, vb, va, { place, arrival }, allGlobal.get());
  f.return(place);
  f.unreachable();
  return func;
}
