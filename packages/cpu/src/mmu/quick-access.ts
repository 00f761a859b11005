/** Looks into the TLB out of line, for translated regions. */
import { type AddressType, type Func, i32, type ModuleBuilder } from "@xenoserver/wasm";
import { Pending, State, Tlb } from "../state/layout.ts";
import { Access, state32 } from "./emit.ts";
import { emitTlbLookup } from "./tlb.ts";

/**
 * (vb, va, size) → host address: what can be used directly, and else what `slow` says. An access may come here only because others
 * of its group reach into the next page.
 */
export function defineQuick(m: ModuleBuilder, slow: Func, tag: number, name: string): Func {
  const func = m.func(["i32", "i64", "i32"], [m.addressType], name);
  const f = func.fn;
  const [vb, va, size] = [f.param<"i32">(0), f.param<"i64">(1), f.param<"i32">(2)];
  const within = va.wrap().and(4095).add(size).leU(4096);
  const hit = emitTlbLookup({ f, tlbBase: () => state32(f, vb, State.tlb) }, va, 1, tag);
  f.if(within.and(hit.matches), () => f.return(hit.host));
  f.return(f.call<AddressType>(slow, vb, va, size));
  f.unreachable();
  return func;
}

/** See `Mmu.findPage`. */
export function defineFindPage(m: ModuleBuilder, translate: Func): Func {
  const func = m.func(["i32", "i64", "i32", "i32"], [m.addressType], "findPage");
  const f = func.fn;
  const [vb, va] = [f.param<"i32">(0), f.param<"i64">(1)];
  const [size, isWrite] = [f.param<"i32">(2), f.param<"i32">(3)];
  const none = () => f.return(f.addressAt(0));
  f.if(va.wrap().and(4095).add(size).gtU(4096), none);
  // What a device has answered is for the access itself.
  f.if(state32(f, vb, State.slowAccess).or(state32(f, vb, State.mmioReady)), none);
  const access = f.select(isWrite, i32(Access.write), i32(Access.read));
  f.if(f.call<AddressType>(translate, vb, va, access).eqz(), () => {
    // The access will find out by itself, and be the one that faults or waits.
    f.store("i32.store", vb, state32(f, vb, State.pending).and(~Pending.mmioRead), State.pending);
    none();
  });
  // Of a page with code there is no entry for writing.
  for (const tag of [Tlb.read, Tlb.write]) {
    f.if(isWrite.eq(tag === Tlb.write ? 1 : 0), () => {
      const hit = emitTlbLookup({ f, tlbBase: () => state32(f, vb, State.tlb) }, va, 1, tag);
      f.return(f.select(hit.matches, hit.host, f.addressAt(0)));
    });
  }
  f.unreachable();
  return func;
}
