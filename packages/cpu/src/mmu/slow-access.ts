import {
  type Address,
  type AddressType,
  type Fn,
  type Func,
  type I32,
  type I64,
  i32,
  i64,
  type ModuleBuilder,
} from "@xenoserver/wasm";
import { Pending, State } from "../state/layout.ts";
import { Access, state32, state64 } from "./emit.ts";
import type { MmuImports } from "./mmu.ts";

/** Copies `size` bytes between the bounce buffer and the two pages of a crossing access. */
export function emitSplitCopy(f: Fn, bounce: I32, first: Address, second: Address, size: I32, toGuest: boolean): void {
  const head = f.let(i32(4096).sub(first.wrap().and(4095)));
  const copy = (guest: Address, buffer: I32, count: I32) =>
    toGuest ? f.memoryCopy(guest, buffer, count) : f.memoryCopy(buffer, guest, count);
  copy(first, bounce, head);
  copy(second, bounce.add(head), size.sub(head));
}

/** True if `size` bytes at `va` leave the page. */
const crosses = (va: I64, size: I32) => va.wrap().and(4095).add(size).gtU(4096);
export const secondPage = (va: I64, size: I32) => va.add(size.extU()).sub(1).and(i64(-4096));

/** Shows an access to the host program if it wants to see each; returns 0 from the function after a fault. */
function emitAccessed(f: Fn, imports: MmuImports, isWrite: 0 | 1): void {
  const va = f.param<"i64">(1);
  f.if(state32(f, f.param(0), State.slowAccess), () => {
    const refused = f.call<"i32">(imports.accessed, va.wrap(), va.shrU(32).wrap(), f.param(2), i32(isWrite));
    f.if(refused, () => f.return(f.addressAt(0)));
  });
}

export function defineSlowRead(m: ModuleBuilder, imports: MmuImports, translate: Func): Func {
  const func = m.func(["i32", "i64", "i32"], [m.addressType], "slowRead");
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const va = f.param<"i64">(1);
  const size = f.param<"i32">(2);
  emitAccessed(f, imports, 0);
  f.store("i32.store", vb, size, State.mmioSize);
  const first = f.let(f.call<AddressType>(translate, vb, va, i32(Access.read)));
  f.if(crosses(va, size).eqz().or(first.eqz()), () => f.return(first));
  const second = f.let(f.call<AddressType>(translate, vb, secondPage(va, size), i32(Access.read)));
  f.if(second.eqz(), () => f.return(f.addressAt(0)));
  const bounce = f.let(vb.add(State.bounce));
  emitSplitCopy(f, bounce, first, second, size, false);
  f.return(f.address(bounce));
  f.unreachable();
  return func;
}

/** @param codeWritten  drops the code where something is about to be written */
export function defineSlowWrite(m: ModuleBuilder, imports: MmuImports, translate: Func, codeWritten: Func): Func {
  const func = m.func(["i32", "i64", "i32"], [m.addressType], "slowWrite");
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const va = f.param<"i64">(1);
  const size = f.param<"i32">(2);
  emitAccessed(f, imports, 1);
  f.store("i32.store", vb, size, State.mmioSize);
  f.store("i32.store", vb, size, State.bounceSize);
  f.store("i64.store", vb, va, State.bounceVa);
  const first = f.let(f.call<AddressType>(translate, vb, va, i32(Access.write)));
  f.if(first.eqz(), () => f.return(f.addressAt(0)));
  f.if(crosses(va, size).eqz(), () => {
    f.callVoid(codeWritten, first, size);
    f.return(first);
  });
  const second = f.let(f.call<AddressType>(translate, vb, secondPage(va, size), i32(Access.write)));
  f.if(second.eqz(), () => f.return(f.addressAt(0)));
  const head = f.let(i32(4096).sub(first.wrap().and(4095)));
  f.callVoid(codeWritten, first, head);
  f.callVoid(codeWritten, second, size.sub(head));
  const bounce = f.let(vb.add(State.bounce));
  emitSplitCopy(f, bounce, first, second, size, false);
  f.return(f.address(bounce));
  f.unreachable();
  return func;
}

export function defineCommitBounce(m: ModuleBuilder, translate: Func, codeWritten: Func): Func {
  const func = m.func(["i32", m.addressType], [], "commitBounce");
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const bounce = f.let(vb.add(State.bounce));
  f.if(f.param<AddressType>(1).ne(f.address(bounce)), () => f.return());
  const va = f.let(state64(f, vb, State.bounceVa));
  const size = f.let(state32(f, vb, State.bounceSize));
  f.if(size.eqz(), () => f.return());
  const first = f.let(f.call<AddressType>(translate, vb, va, i32(Access.write)));
  const second = f.let(f.call<AddressType>(translate, vb, secondPage(va, size), i32(Access.write)));
  f.if(first.eqz().or(second.eqz()), () => f.return());
  const head = f.let(i32(4096).sub(first.wrap().and(4095)));
  f.callVoid(codeWritten, first, head);
  f.callVoid(codeWritten, second, size.sub(head));
  emitSplitCopy(f, bounce, first, second, size, true);
  return func;
}

export function defineSlowStore(m: ModuleBuilder, imports: MmuImports, slowWrite: Func, commit: Func): Func {
  const func = m.func(["i32", "i64", "i64", "i32"], ["i32"], "slowStore");
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const value = f.param<"i64">(2);
  const size = f.param<"i32">(3);
  const at = f.let(f.call<AddressType>(slowWrite, vb, f.param(1), size));
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
