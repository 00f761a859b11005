import {
  type Callee,
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
  CODE_GRANULE_BYTES,
  CodeMode,
  EMPTY_TLB_SET,
  ITLB_BYTES,
  ITLB_ENTRIES,
  ITLB_ENTRY_BYTES,
  ITLB_OFFSET,
  Itlb,
  LargePages,
  type MemoryLayout,
  NOT_CANONICAL,
  P2M_LEAF_ENTRIES,
  Pending,
  PHYSICAL_BITS,
  State,
  TLB_BYTES,
  TLB_ENTRIES,
  TLB_ENTRY_BYTES,
  TLB_FLAG_GLOBAL,
  TLB_SETS,
  Tlb,
} from "../state/layout.ts";

/** Kinds of access, also the argument of `translate`. */
export const Access = { read: 0, write: 1, execute: 2 } as const;
const PAGE_FAULT = 14;
const GENERAL_PROTECTION = 13;

/** Page-table entry bits. */
const Pte = { present: 1, writable: 2, user: 4, accessed: 0x20, dirty: 0x40, large: 0x80, global: 0x100 } as const;
/** Address bits of an entry, for PHYSICAL_BITS. */
const ADDRESS_MASK = i64Halves(-4096, 2 ** (PHYSICAL_BITS - 32) - 1);
/** Bits that must be zero: from PHYSICAL_BITS to 51. */
const RESERVED_MASK = i64Halves(0, 0x000fffff & ~(2 ** (PHYSICAL_BITS - 32) - 1));

const CR0_PG = 0x80000000;
const CR0_WP = 0x10000;
const CR4_PSE = 0x10;
const CR4_PAE = 0x20;
const CR4_SMEP = 1 << 20;
const CR4_SMAP = 1 << 21;
const EFER_NXE = 0x800;
const EFER_LMA = 0x400;
const FLAG_AC = 0x40000;

/** Functions of the memory-management unit, in the engine's module. */
export interface Mmu {
  /** (vb, va, access) → host address, 0 after a fault or an MMIO request. */
  readonly translate: Func;
  /** (vb, va) → gpa, or −1 after a fault; for execution. Does not fill the data TLB. */
  readonly translateCode: Func;
  /** (vb, page) → 1 if the ITLB now has the page, 0 if the host program must see to it. */
  readonly fillItlb: Func;
  readonly slowRead: Func;
  readonly slowWrite: Func;
  readonly slowStore: Func;
  /** As slowWrite and slowStore, for translated regions: they fail with `State.interpretOnce` where code would be overwritten. */
  readonly regionSlowWrite: Func;
  readonly regionSlowStore: Func;
  readonly commitBounce: Func;
  readonly flushTlb: Func;
  readonly flushTlbPage: Func;
  readonly dropWriteEntries: Func;
}

export interface MmuImports {
  /** (frame, offset, size): translated code is about to be overwritten. */
  readonly codeModified: Callee;
  /** (vaLo, vaHi, size, isWrite) → 1 after a fault: an access while `State.slowAccess` asks to see each. */
  readonly accessed: Callee;
  /** (gpaLo, gpaHi, size, valueLo, valueHi): a store to a page without a frame. */
  readonly mmioWrite: Callee;
}

const state32 = (f: Fn, vb: I32, offset: number) => f.load<"i32">("i32.load", vb, offset);
const state64 = (f: Fn, vb: I32, offset: number) => f.load<"i64">("i64.load", vb, offset);

/** (gpa) → host address of its frame, or 0. */
function defineFrameHost(m: ModuleBuilder, layout: MemoryLayout): Func {
  const func = m.func(["i64"], ["i32"]);
  const f = func.fn;
  const gpa = f.param<"i64">(0);
  f.if(gpa.shrU(PHYSICAL_BITS).eqz().eqz(), () => f.return(i32(0)));
  const gfn = f.let(gpa.shrU(12).wrap());
  const leaf = f.let(f.load<"i32">("i32.load", gfn.shrU(Math.log2(P2M_LEAF_ENTRIES)).shl(2), layout.p2mDirectory));
  f.if(leaf.eqz(), () => f.return(i32(0)));
  const frame = f.let(f.load<"i32">("i32.load", leaf.add(gfn.and(P2M_LEAF_ENTRIES - 1).shl(2))));
  f.return(f.select(frame, frame.sub(1).shl(12).add(i32(layout.framesOffset)), i32(0)));
  f.unreachable();
  return func;
}

/** (vb, va, errorCode) → 0: records a page fault. */
function definePageFault(m: ModuleBuilder): Func {
  const func = m.func(["i32", "i64", "i32"], []);
  const f = func.fn;
  const vb = f.param<"i32">(0);
  f.store("i32.store", vb, i32(PAGE_FAULT), State.faultVector);
  f.store("i64.store", vb, f.param<"i64">(1), State.faultAddress);
  f.store("i32.store", vb, f.param<"i32">(2), State.faultErrorCode);
  return func;
}

/**
 * (vb, va, access) → gpa | (flags << 52), or −1 after a fault. Flags: bit 0 writable now (and dirty), bit 1 global, bit 2 large.
 * Sets accessed and dirty bits.
 */
function defineWalk(m: ModuleBuilder, frameHost: Func, pageFault: Func): Func {
  const func = m.func(["i32", "i64", "i32"], ["i64"]);
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const va = f.param<"i64">(1);
  const access = f.param<"i32">(2);
  const cr0 = f.let(state32(f, vb, State.cr0));
  const cr4 = f.let(state32(f, vb, State.cr4));
  const efer = f.let(state32(f, vb, State.efer));
  const user = f.let(state32(f, vb, State.cpl).eq(3));
  const isWrite = f.let(access.eq(Access.write));
  const isFetch = f.let(access.eq(Access.execute));
  const nxe = f.let(efer.and(EFER_NXE).ne(0));
  const smep = f.let(cr4.and(CR4_SMEP).ne(0));
  // The instruction-fetch bit of the error code is only defined with NX or SMEP.
  const errorBase = f.let(
    isWrite
      .shl(1)
      .or(user.shl(2))
      .or(isFetch.and(nxe.or(smep)).shl(4)),
  );
  const fail = (code: I32) => {
    f.callVoid(pageFault, vb, va, code.or(errorBase));
    f.return(i64(-1));
  };

  // Paging off: identity, writable.
  f.if(cr0.and(i32(CR0_PG | 0)).eqz(), () => f.return(va.and(i64Halves(-1, 0)).or(i64Halves(0, 1 << 20))));
  // A 48-bit address must be sign-extended.
  f.if(va.shl(16).shrS(16).ne(va), () => {
    f.store("i32.store", vb, i32(GENERAL_PROTECTION), State.faultVector);
    f.store("i32.store", vb, i32(NOT_CANONICAL), State.faultErrorCode);
    f.store("i64.store", vb, va, State.faultAddress);
    f.return(i64(-1));
  });

  const long = f.let(efer.and(EFER_LMA).ne(0));
  const pae = f.let(cr4.and(CR4_PAE).ne(0));
  const cr3 = f.let(state64(f, vb, State.cr3));
  const linear = f.let(f.select(long, va, va.and(i64Halves(-1, 0))));
  const indexBits = f.let(f.select(pae, i64(9), i64(10)));
  const indexMask = f.let(i64(1).shl(indexBits).sub(1));
  const entryShift = f.let(f.select(pae, i64(3), i64(2)));
  const shift = f.var("i64", f.select(long, i64(39), f.select(pae, i64(30), i64(22))));
  const table = f.var("i64", f.let(f.select(long, cr3.and(ADDRESS_MASK), cr3.and(i64Halves(-32, 0)))));
  f.if(pae.eqz(), () => table.set(cr3.and(i64Halves(-4096, 0))));
  const allowed = f.var("i64", i64(Pte.writable | Pte.user));
  const noExecute = f.var("i32", i32(0));
  const entry = f.var("i64");
  const host = f.var("i32");
  const legacyPae = f.let(long.eqz().and(pae));
  const isPdpte = () => legacyPae.and(shift.get().eq(30));

  f.block((found) => {
    f.loop((down) => {
      const index = linear.shrU(shift.get()).and(indexMask);
      const at = f.let(table.get().add(index.shl(entryShift)));
      const frame = f.let(f.call<"i32">(frameHost, at));
      f.if(frame.eqz(), () => fail(i32(0)));
      host.set(frame.add(at.wrap().and(4095)));
      f.if(
        pae,
        () => entry.set(f.load<"i64">("i64.load", host.get())),
        () => entry.set(f.load<"i64">("i64.load32_u", host.get())),
      );
      const e = entry.get();
      f.if(e.wrap().and(Pte.present).eqz(), () => fail(i32(0)));
      f.if(pae, () => {
        f.if(e.and(RESERVED_MASK).eqz().eqz(), () => fail(i32(9)));
        f.if(nxe.eqz().and(e.shrU(63).wrap()), () => fail(i32(9)));
      });
      // A PAE directory-pointer entry has no permissions.
      f.if(isPdpte().eqz(), () => {
        allowed.set(allowed.get().and(e));
        noExecute.set(noExecute.get().or(f.select(pae, e.shrU(63).wrap(), i32(0))));
      });
      f.brIf(found, shift.get().eq(12));
      const large = f.let(
        e
          .wrap()
          .and(Pte.large)
          .ne(0)
          .and(pae.or(cr4.and(CR4_PSE).ne(0))),
      );
      f.if(large, () => {
        f.if(shift.get().eq(39).or(isPdpte()), () => fail(i32(9)));
        // Address bits below the page size are reserved, but for PAT at bit 12.
        const low = i64(1).shl(shift.get()).sub(1).and(i64(-8192));
        f.if(pae.and(e.and(low).eqz().eqz()), () => fail(i32(9)));
        f.br(found);
      });
      f.if(e.wrap().and(Pte.accessed).eqz().and(isPdpte().eqz()), () =>
        f.drop(f.load<"i32">("i32.atomic.rmw.or", host.get(), 0, i32(Pte.accessed))),
      );
      table.set(f.select(pae, e.and(ADDRESS_MASK), e.and(i64Halves(-4096, 0))));
      shift.set(shift.get().sub(indexBits));
      f.br(down);
    });
  });

  const e = f.let(entry.get());
  const may = f.let(allowed.get().wrap());
  const userPage = f.let(may.and(Pte.user).ne(0));
  f.if(user.and(userPage.eqz()), () => fail(i32(1)));
  f.if(isFetch, () => {
    f.if(noExecute.get().and(nxe), () => fail(i32(1)));
    f.if(smep.and(userPage).and(user.eqz()), () => fail(i32(1)));
  });
  const smapClosed = cr4
    .and(CR4_SMAP)
    .ne(0)
    .and(state32(f, vb, State.flagsSystem).and(FLAG_AC).eqz());
  f.if(userPage.and(user.eqz()).and(isFetch.eqz()).and(smapClosed), () => fail(i32(1)));
  const writable = f.let(
    may
      .and(Pte.writable)
      .ne(0)
      .or(user.eqz().and(cr0.and(CR0_WP).eqz())),
  );
  f.if(isWrite.and(writable.eqz()), () => fail(i32(1)));
  const want = f.let(i32(Pte.accessed).or(f.select(isWrite, i32(Pte.dirty), i32(0))));
  f.if(e.wrap().and(want).ne(want), () => f.drop(f.load<"i32">("i32.atomic.rmw.or", host.get(), 0, want)));
  const dirty = e.wrap().and(Pte.dirty).ne(0).or(isWrite);
  const isGlobal = e.shrU(8).wrap().and(1).and(cr4.shrU(7)).and(1);
  const isLarge = f.let(shift.get().eq(12).eqz());
  const flags = writable.and(dirty).or(isGlobal.shl(1)).or(isLarge.shl(2));
  const inside = f.let(i64(1).shl(shift.get()).sub(1));
  const base = f.select(pae, e.and(ADDRESS_MASK), e.and(i64Halves(-4096, 0)));
  f.return(base.and(inside.not()).or(va.and(inside)).or(flags.extU().shl(52)));
  f.unreachable();
  return func;
}

/** Emits "frame number of a host address". */
const frameOf = (host: I32, layout: MemoryLayout) => host.sub(i32(layout.framesOffset)).shrU(12);

/** (host, size) → 1 if decoded or translated code lies in these bytes. */
function defineHoldsCode(m: ModuleBuilder, layout: MemoryLayout): Func {
  const func = m.func(["i32", "i32"], ["i32"]);
  const f = func.fn;
  const host = f.param<"i32">(0);
  const size = f.param<"i32">(1);
  f.if(host.ltU(i32(layout.framesOffset)), () => f.return(i32(0)));
  const frame = f.let(frameOf(host, layout));
  f.if(f.load<"i32">("i32.load8_u", frame, layout.frameFlags).eqz(), () => f.return(i32(0)));
  const shift = Math.log2(CODE_GRANULE_BYTES);
  const granule = f.var("i32", host.and(4095).shrU(shift));
  const last = f.let(host.and(4095).add(size).sub(1).shrU(shift));
  f.while(
    () => granule.get().leU(last),
    () => {
      const at = frame.shl(4).add(granule.get().shrU(3));
      const bit = f.load<"i32">("i32.load8_u", at, layout.codeMaps).shrU(granule.get().and(7)).and(1);
      f.if(bit, () => f.return(i32(1)));
      granule.set(granule.get().add(1));
    },
  );
  f.return(i32(0));
  f.unreachable();
  return func;
}

/** (host, size): tells the engine if code lies in these bytes. */
function defineCodeWritten(m: ModuleBuilder, layout: MemoryLayout, imports: MmuImports, holdsCode: Func): Func {
  const func = m.func(["i32", "i32"], []);
  const f = func.fn;
  const host = f.param<"i32">(0);
  const size = f.param<"i32">(1);
  f.if(f.call<"i32">(holdsCode, host, size), () =>
    f.callVoid(imports.codeModified, frameOf(host, layout), host.and(4095), size),
  );
  return func;
}

function defineTranslate(m: ModuleBuilder, layout: MemoryLayout, walk: Func, frameHost: Func): Func {
  const func = m.func(["i32", "i64", "i32"], ["i32"], "translate");
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const va = f.param<"i64">(1);
  const access = f.param<"i32">(2);
  const walked = f.let(f.call<"i64">(walk, vb, va, access));
  f.if(walked.eq(-1), () => f.return(i32(0)));
  const gpa = f.let(walked.and(i64Halves(-1, 0xfffff)));
  const flags = f.let(walked.shrU(52).wrap());
  const host = f.let(f.call<"i32">(frameHost, gpa));
  f.if(host.eqz(), () => {
    f.if(state32(f, vb, State.mmioReady), () => {
      f.store("i32.store", vb, i32(0), State.mmioReady);
      f.return(vb.add(State.mmioValue));
    });
    f.store("i32.store", vb, state32(f, vb, State.pending).or(Pending.mmioRead), State.pending);
    f.store("i32.store", vb, gpa.wrap(), State.mmioGpaLo);
    f.store("i32.store", vb, gpa.shrU(32).wrap(), State.mmioGpaHi);
    f.return(i32(0));
  });
  const page = f.let(va.and(i64(-4096)));
  const entry = f.let(
    va
      .shrU(7)
      .wrap()
      .and((TLB_ENTRIES - 1) << 5)
      .add(state32(f, vb, State.tlb)),
  );
  const holdsCode = f.load<"i32">("i32.load8_u", frameOf(host, layout), layout.frameFlags);
  const writeEntry = f.let(flags.and(1).and(holdsCode.eqz()));
  f.store("i64.store", entry, page, Tlb.read);
  f.store("i64.store", entry, f.select(writeEntry, page, i64(-1)), Tlb.write);
  f.store("i32.store", entry, host.sub(page.wrap()), Tlb.addend);
  f.store("i32.store", entry, flags.shrU(1).and(TLB_FLAG_GLOBAL), Tlb.flags);
  f.if(flags.and(4), () => {
    const half = f.select(va.ltS(0), i32(LargePages.upperHalf), i32(LargePages.lowerHalf));
    f.store("i32.store", vb, state32(f, vb, State.largePages).or(half), State.largePages);
  });
  f.return(host.add(va.wrap().and(4095)));
  f.unreachable();
  return func;
}

function defineTranslateCode(m: ModuleBuilder, walk: Func): Func {
  const func = m.func(["i32", "i64"], ["i64"]);
  const f = func.fn;
  f.return(f.call<"i64">(walk, f.param(0), f.param(1), i32(Access.execute)));
  f.unreachable();
  return func;
}

function defineFillItlb(m: ModuleBuilder, layout: MemoryLayout, walk: Func, frameHost: Func): Func {
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
  const host = f.let(f.call<"i32">(frameHost, walked.and(i64Halves(-1, 0xfffff))));
  f.if(host.eqz(), () => f.return(i32(0)));
  const frame = f.let(frameOf(host, layout));
  const table = f.let(f.load<"i32">("i32.load", frame.shl(2).add(state32(f, vb, State.frameTables))));
  f.if(table.eqz(), () => f.return(i32(0)));
  const entry = f.let(
    page
      .shrU(8)
      .wrap()
      .and((ITLB_ENTRIES - 1) << 4)
      .add(state32(f, vb, State.itlb)),
  );
  f.store("i64.store", entry, page, Itlb.tag);
  f.store("i32.store", entry, table, Itlb.codeTable);
  f.store("i32.store", entry, frame.or(walked.shrU(53).wrap().and(1).shl(31)), Itlb.frame);
  f.return(i32(1));
  f.unreachable();
  return func;
}

/** Copies `size` bytes between the bounce buffer and the two pages of a crossing access. */
function emitSplitCopy(f: Fn, bounce: I32, first: I32, second: I32, size: I32, toGuest: boolean): void {
  const head = f.let(i32(4096).sub(first.and(4095)));
  const copy = (guest: I32, buffer: I32, count: I32) =>
    toGuest ? f.memoryCopy(guest, buffer, count) : f.memoryCopy(buffer, guest, count);
  copy(first, bounce, head);
  copy(second, bounce.add(head), size.sub(head));
}

/** True if `size` bytes at `va` leave the page. */
const crosses = (va: I64, size: I32) => va.wrap().and(4095).add(size).gtU(4096);
const secondPage = (va: I64, size: I32) => va.add(size.extU()).sub(1).and(i64(-4096));

/** Shows an access to the host program if it wants to see each; returns 0 from the function after a fault. */
function emitAccessed(f: Fn, imports: MmuImports, isWrite: 0 | 1): void {
  const va = f.param<"i64">(1);
  f.if(state32(f, f.param(0), State.slowAccess), () => {
    const refused = f.call<"i32">(imports.accessed, va.wrap(), va.shrU(32).wrap(), f.param(2), i32(isWrite));
    f.if(refused, () => f.return(i32(0)));
  });
}

function defineSlowRead(m: ModuleBuilder, imports: MmuImports, translate: Func): Func {
  const func = m.func(["i32", "i64", "i32"], ["i32"], "slowRead");
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const va = f.param<"i64">(1);
  const size = f.param<"i32">(2);
  emitAccessed(f, imports, 0);
  f.store("i32.store", vb, size, State.mmioSize);
  const first = f.let(f.call<"i32">(translate, vb, va, i32(Access.read)));
  f.if(crosses(va, size).eqz().or(first.eqz()), () => f.return(first));
  const second = f.let(f.call<"i32">(translate, vb, secondPage(va, size), i32(Access.read)));
  f.if(second.eqz(), () => f.return(i32(0)));
  const bounce = f.let(vb.add(State.bounce));
  emitSplitCopy(f, bounce, first, second, size, false);
  f.return(bounce);
  f.unreachable();
  return func;
}

/**
 * What a store does when its page has code: emitted with the place and size before anything is written. The interpreter drops
 * that code and goes on; a translated region might drop itself, so it leaves the instruction to the interpreter.
 */
type CodeGuard = (f: Fn, host: I32, size: I32) => void;

function defineSlowWrite(m: ModuleBuilder, imports: MmuImports, translate: Func, guard: CodeGuard, name: string): Func {
  const func = m.func(["i32", "i64", "i32"], ["i32"], name);
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const va = f.param<"i64">(1);
  const size = f.param<"i32">(2);
  emitAccessed(f, imports, 1);
  f.store("i32.store", vb, size, State.mmioSize);
  f.store("i32.store", vb, size, State.bounceSize);
  f.store("i64.store", vb, va, State.bounceVa);
  const first = f.let(f.call<"i32">(translate, vb, va, i32(Access.write)));
  f.if(first.eqz(), () => f.return(i32(0)));
  f.if(crosses(va, size).eqz(), () => {
    guard(f, first, size);
    f.return(first);
  });
  const second = f.let(f.call<"i32">(translate, vb, secondPage(va, size), i32(Access.write)));
  f.if(second.eqz(), () => f.return(i32(0)));
  const head = f.let(i32(4096).sub(first.and(4095)));
  guard(f, first, head);
  guard(f, second, size.sub(head));
  const bounce = f.let(vb.add(State.bounce));
  emitSplitCopy(f, bounce, first, second, size, false);
  f.return(bounce);
  f.unreachable();
  return func;
}

function defineCommitBounce(m: ModuleBuilder, translate: Func, codeWritten: Func): Func {
  const func = m.func(["i32", "i32"], [], "commitBounce");
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const bounce = f.let(vb.add(State.bounce));
  f.if(f.param<"i32">(1).ne(bounce), () => f.return());
  const va = f.let(state64(f, vb, State.bounceVa));
  const size = f.let(state32(f, vb, State.bounceSize));
  const first = f.let(f.call<"i32">(translate, vb, va, i32(Access.write)));
  const second = f.let(f.call<"i32">(translate, vb, secondPage(va, size), i32(Access.write)));
  f.if(first.eqz().or(second.eqz()), () => f.return());
  const head = f.let(i32(4096).sub(first.and(4095)));
  f.callVoid(codeWritten, first, head);
  f.callVoid(codeWritten, second, size.sub(head));
  emitSplitCopy(f, bounce, first, second, size, true);
  return func;
}

function defineSlowStore(m: ModuleBuilder, imports: MmuImports, slowWrite: Func, commit: Func, name: string): Func {
  const func = m.func(["i32", "i64", "i64", "i32"], ["i32"], name);
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const value = f.param<"i64">(2);
  const size = f.param<"i32">(3);
  const at = f.let(f.call<"i32">(slowWrite, vb, f.param(1), size));
  f.if(at.eqz(), () => {
    const pending = f.let(state32(f, vb, State.pending));
    f.if(pending.and(Pending.mmioRead).eqz(), () => f.return(i32(1)));
    f.store("i32.store", vb, pending.and(~Pending.mmioRead), State.pending);
    f.callVoid(
      imports.mmioWrite,
      state32(f, vb, State.mmioGpaLo),
      state32(f, vb, State.mmioGpaHi),
      size,
      value.wrap(),
      value.shrU(32).wrap(),
    );
    f.return(i32(0));
  });
  f.block((done) => {
    for (const [bytes, name] of [
      [1, "i64.store8"],
      [2, "i64.store16"],
      [4, "i64.store32"],
    ] as const) {
      f.if(size.eq(bytes), () => {
        f.store(name, at, value);
        f.br(done);
      });
    }
    f.store("i64.store", at, value);
  });
  f.callVoid(commit, vb, at);
  f.return(i32(0));
  f.unreachable();
  return func;
}

/**
 * (vb, keepGlobal): empties the TLBs. Only the supervisor's sets keep global entries: the others hold user pages, or the few
 * entries through which the kernel reaches them.
 */
function defineFlushTlb(m: ModuleBuilder, tlbOffset: number): Func {
  const func = m.func(["i32", "i32"], [], "flushTlb");
  const f = func.fn;
  const [vb, keep] = [f.param<"i32">(0), f.param<"i32">(1)];
  const empty = (offset: number, bytes: number) => f.memoryFill(vb.add(offset), i32(0xff), i32(bytes));
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

function defineFlushTlbPage(m: ModuleBuilder, tlbOffset: number): Func {
  const func = m.func(["i32", "i64"], [], "flushTlbPage");
  const f = func.fn;
  const slot = f.let(
    f
      .param<"i64">(1)
      .shrU(7)
      .wrap()
      .and((TLB_ENTRIES - 1) << 5)
      .add(f.param<"i32">(0))
      .add(tlbOffset),
  );
  for (let set = 0; set < TLB_SETS; set++) {
    const offset = set * TLB_ENTRIES * 32;
    f.store("i64.store", slot, i64(-1), offset + Tlb.read);
    f.store("i64.store", slot, i64(-1), offset + Tlb.write);
  }
  return func;
}

/** (vb, frameHost) → 1 if it was so: forgets that a frame may be written directly, since somebody has code from it now. */
function defineDropWriteEntries(m: ModuleBuilder, tlbOffset: number): Func {
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

/** Adds the memory-management unit to a module. */
export function defineMmu(m: ModuleBuilder, layout: MemoryLayout, imports: MmuImports, tlbOffset: number): Mmu {
  const frameHost = defineFrameHost(m, layout);
  const walk = defineWalk(m, frameHost, definePageFault(m));
  const holdsCode = defineHoldsCode(m, layout);
  const codeWritten = defineCodeWritten(m, layout, imports, holdsCode);
  const drop: CodeGuard = (f, host, size) => f.callVoid(codeWritten, host, size);
  const decline: CodeGuard = (f, host, size) =>
    f.if(f.call<"i32">(holdsCode, host, size), () => {
      f.store("i32.store", f.param<"i32">(0), i32(1), State.interpretOnce);
      f.return(i32(0));
    });
  const translate = defineTranslate(m, layout, walk, frameHost);
  const slowWrite = defineSlowWrite(m, imports, translate, drop, "slowWrite");
  const regionSlowWrite = defineSlowWrite(m, imports, translate, decline, "regionSlowWrite");
  const commitBounce = defineCommitBounce(m, translate, codeWritten);
  return {
    translate,
    translateCode: defineTranslateCode(m, walk),
    fillItlb: defineFillItlb(m, layout, walk, frameHost),
    slowRead: defineSlowRead(m, imports, translate),
    slowWrite,
    commitBounce,
    slowStore: defineSlowStore(m, imports, slowWrite, commitBounce, "slowStore"),
    regionSlowWrite,
    regionSlowStore: defineSlowStore(m, imports, regionSlowWrite, commitBounce, "regionSlowStore"),
    flushTlb: defineFlushTlb(m, tlbOffset),
    flushTlbPage: defineFlushTlbPage(m, tlbOffset),
    dropWriteEntries: defineDropWriteEntries(m, tlbOffset),
  };
}
