import {
  type AddressType,
  type Fn,
  type Func,
  type I32,
  type I64,
  i32,
  i64,
  i64Halves,
  type ModuleBuilder,
} from "@xenoserver/wasm";
import {
  CodeMode,
  DirtyControl,
  Itlb,
  type MemoryLayout,
  Pending,
  State,
  TLB_BYTES,
  TLB_FLAG_GLOBAL,
  TLB_OFFSET,
  Tlb,
} from "../state/layout.ts";
import { Access, emitItlbEntry, frameOf, largePageBit, state32, state64 } from "./emit.ts";
import { emptyTlbTag, tlbEntryOffset, tlbTag } from "./tlb.ts";
import { emitNoteItlb, emitNoteTlb } from "./used-groups.ts";

/** Notes that a translation of a page of more than 4 KiB is cached, in parts: INVLPG for any of it must drop them all. */
function emitNoteLargePage(f: Fn, vb: I32, va: I64): void {
  const bit = i64(1).shl(largePageBit(va));
  f.store("i64.store", vb, state64(f, vb, State.largePages).or(bit), State.largePages);
}

export function defineTranslate(m: ModuleBuilder, layout: MemoryLayout, walk: Func, frameHost: Func): Func {
  const func = m.func(["i32", "i64", "i32"], [m.addressType], "translate");
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const va = f.param<"i64">(1);
  const access = f.param<"i32">(2);
  const walked = f.let(f.call<"i64">(walk, vb, va, access));
  f.if(walked.eq(-1), () => f.return(f.addressAt(0)));
  const gpa = f.let(walked.and(i64Halves(-1, 0xfffff)));
  const flags = f.let(walked.shrU(52).wrap());
  const host = f.let(f.call<AddressType>(frameHost, gpa));
  f.if(host.eqz(), () => {
    f.if(state32(f, vb, State.mmioReady), () => {
      f.store("i32.store", vb, i32(0), State.mmioReady);
      f.return(f.address(vb.add(State.mmioValue)));
    });
    f.store("i32.store", vb, state32(f, vb, State.pending).or(Pending.mmioRead), State.pending);
    f.store("i32.store", vb, gpa.wrap(), State.mmioGpaLo);
    f.store("i32.store", vb, gpa.shrU(32).wrap(), State.mmioGpaHi);
    f.return(f.addressAt(0));
  });
  const page = f.let(va.and(i64(-4096)));
  const offset = f.let(tlbEntryOffset(va));
  const entry = f.let(offset.add(state32(f, vb, State.tlb)));
  const frame = f.let(frameOf(host, layout));
  const holdsCode = f.load<"i32">("i32.load8_u", frame, layout.frameFlags);
  const writeEntry = f.var("i32", flags.and(1).and(holdsCode.eqz()));
  // While stores are logged, a page can be written directly once its first store was seen.
  f.if(f.load<"i32">("i32.load", i32(layout.dirtyControl), DirtyControl.enabled), () => {
    f.if(access.eq(Access.write), () => f.store("i32.store8", frame, i32(1), layout.dirtyMap));
    writeEntry.set(writeEntry.get().and(f.load<"i32">("i32.load8_u", frame, layout.dirtyMap)));
  });
  // While each access is to be seen there is no entry that would spare the next one the slow path.
  f.if(state32(f, vb, State.slowAccess).eqz(), () => {
    f.store("i64.store", entry, tlbTag(page), Tlb.read);
    f.store("i64.store", entry, f.select(writeEntry.get(), tlbTag(page), emptyTlbTag(offset)), Tlb.write);
    f.storeAddress(entry, host.sub(f.address(page)), Tlb.addend);
    f.store("i32.store", entry, flags.shrU(1).and(TLB_FLAG_GLOBAL), Tlb.flags);
    // The supervisor's global entries stay.
    const inSupervisors = state32(f, vb, State.tlb).eq(vb.add(TLB_OFFSET + TLB_BYTES));
    f.if(inSupervisors.and(flags.shrU(1)).and(1).eqz(), () => emitNoteTlb(f, vb, va));
  });
  f.if(flags.and(4), () => emitNoteLargePage(f, vb, va));
  f.return(host.add(f.address(va.wrap().and(4095))));
  f.unreachable();
  return func;
}

export function defineTranslateCode(m: ModuleBuilder, walk: Func): Func {
  const func = m.func(["i32", "i64"], ["i64"]);
  const f = func.fn;
  f.return(f.call<"i64">(walk, f.param(0), f.param(1), i32(Access.execute)));
  f.unreachable();
  return func;
}

export function defineFillItlb(m: ModuleBuilder, layout: MemoryLayout, walk: Func, frameHost: Func): Func {
  const func = m.func(["i32", "i64"], ["i32"]);
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const page = f.param<"i64">(1);
  f.if(
    state32(f, vb, State.codeMode)
      .and(CodeMode.sizeMask | CodeMode.singleStep)
      .ne(CodeMode.code64),
    () => f.return(i32(0)),
  );
  const walked = f.let(f.call<"i64">(walk, vb, page, i32(Access.execute)));
  f.if(walked.eq(-1), () => f.return(i32(0)));
  const host = f.let(f.call<AddressType>(frameHost, walked.and(i64Halves(-1, 0xfffff))));
  f.if(host.eqz(), () => f.return(i32(0)));
  const frame = f.let(frameOf(host, layout));
  // Bit 2 of the walk's flags.
  f.if(walked.shrU(54).wrap().and(1), () => emitNoteLargePage(f, vb, page));
  const heads = f.let(f.load<"i32">("i32.load", frame.shl(2).add(state32(f, vb, State.frameTables))));
  f.if(heads.eqz(), () => f.return(i32(0)));
  const entry = emitItlbEntry(f, vb, page);
  f.store("i64.store", entry, page, Itlb.tag);
  f.store("i32.store", entry, heads, Itlb.heads);
  f.store("i32.store", entry, frame.or(walked.shrU(53).wrap().and(1).shl(31)), Itlb.frame);
  emitNoteItlb(f, vb, page);
  f.return(i32(1));
  f.unreachable();
  return func;
}
