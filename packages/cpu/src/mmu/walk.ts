import {
  type AddressType,
  type Callee,
  type Func,
  type I32,
  i32,
  i64,
  i64Halves,
  type ModuleBuilder,
} from "@xenoserver/wasm";
import { type MemoryLayout, NOT_CANONICAL, P2M_LEAF_ENTRIES, PHYSICAL_BITS, State } from "../state/layout.ts";
import { Access, frameOf, state32, state64 } from "./emit.ts";

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

/**
 * (gpa) → host address of its frame, or 0. Every way of a vcpu to guest memory begins here, so that a frame whose contents are elsewhere
 * is fetched before it is used.
 */
export function defineFrameHost(m: ModuleBuilder, layout: MemoryLayout, fetchFrame: Callee): Func {
  const func = m.func(["i64"], [m.addressType]);
  const f = func.fn;
  const none = () => f.return(f.addressAt(0));
  const gpa = f.param<"i64">(0);
  f.if(gpa.shrU(PHYSICAL_BITS).eqz().eqz(), none);
  const gfn = f.let(gpa.shrU(12).wrap());
  const leaf = f.let(f.load<"i32">("i32.load", gfn.shrU(Math.log2(P2M_LEAF_ENTRIES)).shl(2), layout.p2mDirectory));
  f.if(leaf.eqz(), none);
  const frame = f.let(f.load<"i32">("i32.load", leaf.add(gfn.and(P2M_LEAF_ENTRIES - 1).shl(2))));
  f.if(frame.eqz(), none);
  const absent = f.load<"i32">("i32.load8_u", frame, layout.absentMap - 1);
  f.if(absent, () => f.callVoid(fetchFrame, frame.sub(1)));
  f.return(f.address(frame.sub(1)).shl(12).add(layout.framesOffset));
  f.unreachable();
  return func;
}

/** (vb, va, errorCode) → 0: records a page fault. */
export function definePageFault(m: ModuleBuilder): Func {
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
export function defineWalk(m: ModuleBuilder, layout: MemoryLayout, frameHost: Func, pageFault: Func): Func {
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
  const host = f.var(f.addressType);
  const legacyPae = f.let(long.eqz().and(pae));
  const setBits = (bits: I32) => {
    f.drop(f.load<"i32">("i32.atomic.rmw.or", host.get(), 0, bits));
    f.store("i32.store8", frameOf(host.get(), layout), i32(1), layout.dirtyMap);
  };
  const isPdpte = () => legacyPae.and(shift.get().eq(30));

  f.block((found) => {
    f.loop((down) => {
      const index = linear.shrU(shift.get()).and(indexMask);
      const at = f.let(table.get().add(index.shl(entryShift)));
      const frame = f.let(f.call<AddressType>(frameHost, at));
      f.if(frame.eqz(), () => fail(i32(0)));
      host.set(frame.add(f.address(at.wrap().and(4095))));
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
      f.if(e.wrap().and(Pte.accessed).eqz().and(isPdpte().eqz()), () => setBits(i32(Pte.accessed)));
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
  f.if(e.wrap().and(want).ne(want), () => setBits(want));
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
