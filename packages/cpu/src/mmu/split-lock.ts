/**
 * Locked operations on operands that WebAssembly's atomic operators do not reach, for these take aligned addresses only.
 *
 * An operand within an aligned group of eight bytes is changed by a compare-and-exchange of the group. One that reaches into a
 * second group is changed under a lock that all such operations of a domain take, the first group and then the second, each
 * by compare-and-exchange: no change of either group by others is lost, but others can see the first half changed alone.
 */
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
import { SPLIT_LOCK_WORD, State } from "../state/layout.ts";
import { Access, state32, state64 } from "./emit.ts";
import { emitSplitCopy, secondPage } from "./slow-access.ts";

const GROUP = 8;
const inGroup = (host: Address, width: I32): I32 =>
  host
    .wrap()
    .and(GROUP - 1)
    .add(width)
    .leU(GROUP);
const bitsWithin = (host: Address): I64 =>
  host
    .wrap()
    .and(GROUP - 1)
    .shl(3)
    .extU();
/** The low bits that an operand of `width` bytes has. */
const maskOf = (width: I32): I64 => i64(-1).shrU(i32(64).sub(width.shl(3)).extU());

function exchange(f: Fn, group: Address, expected: I64, next: I64): I32 {
  return f.load<"i64">("i64.atomic.rmw.cmpxchg", group, 0, expected, next).eq(expected);
}

/** Fills the bounce buffer anew from the two pages that it stands for. */
function refillBounce(f: Fn, vb: I32, translate: Func): void {
  const va = f.let(state64(f, vb, State.bounceVa));
  const size = f.let(state32(f, vb, State.bounceSize));
  const first = f.let(f.call<AddressType>(translate, vb, va, i32(Access.write)));
  const second = f.let(f.call<AddressType>(translate, vb, secondPage(va, size), i32(Access.write)));
  f.if(first.eqz().or(second.eqz()), () => f.return());
  emitSplitCopy(f, f.let(vb.add(State.bounce)), first, second, size, false);
}

/** (vb, host, width): what comes before the first look at an operand that is not aligned. */
export function defineBeginSplit(m: ModuleBuilder, translate: Func): Func {
  const func = m.func(["i32", m.addressType, "i32"], [], "beginSplit");
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const host = f.param<AddressType>(1);
  const isBounce = f.let(host.eq(f.address(vb.add(State.bounce))));
  f.if(inGroup(host, f.param(2)).and(isBounce.eqz()), () => f.return());
  const lock = i32(SPLIT_LOCK_WORD);
  f.loop((again) => f.brIf(again, f.load<"i32">("i32.atomic.rmw.cmpxchg", lock, 0, i32(0), i32(1))));
  // What the buffer was filled with may be old by now.
  f.if(isBounce, () => refillBounce(f, vb, translate));
  return func;
}

/** (vb, host, width, old, new) → 0, or 1 if the operand is no longer `old` and is to be looked at again. */
export function defineChangeSplit(m: ModuleBuilder, commitBounce: Func): Func {
  const func = m.func(["i32", m.addressType, "i32", "i64", "i64"], ["i32"], "changeSplit");
  const f = func.fn;
  const vb = f.param<"i32">(0);
  const host = f.param<AddressType>(1);
  const width = f.param<"i32">(2);
  const mask = f.let(maskOf(width));
  const before = f.let(f.param<"i64">(3).and(mask));
  const after = f.let(f.param<"i64">(4).and(mask));
  const unlock = () => f.store("i32.atomic.store", i32(SPLIT_LOCK_WORD), i32(0));

  f.if(host.eq(f.address(vb.add(State.bounce))), () => {
    const old = f.let(f.load<"i64">("i64.load", host));
    f.store("i64.store", host, old.and(mask.not()).or(after));
    f.callVoid(commitBounce, vb, host);
    // Whoever commits it once more finds nothing to do: others may have changed the operand by then.
    f.store("i32.store", vb, i32(0), State.bounceSize);
    unlock();
    f.return(i32(0));
  });
  const low = f.let(host.and(-GROUP));
  const lowShift = f.let(bitsWithin(host));
  const lowOld = f.let(f.load<"i64">("i64.load", low));
  const lowNew = f.let(lowOld.and(mask.shl(lowShift).not()).or(after.shl(lowShift)));
  f.if(inGroup(host, width), () => {
    f.if(lowOld.shrU(lowShift).and(mask).ne(before), () => f.return(i32(1)));
    f.return(exchange(f, low, lowOld, lowNew).eqz());
  });
  const high = f.let(low.add(GROUP));
  const highShift = f.let(i64(64).sub(lowShift));
  const highOld = f.let(f.load<"i64">("i64.load", high));
  const highNew = f.let(highOld.and(mask.shrU(highShift).not()).or(after.shrU(highShift)));
  const found = lowOld.shrU(lowShift).or(highOld.shl(highShift)).and(mask);
  f.if(found.ne(before), () => f.return(i32(1)));
  f.if(exchange(f, low, lowOld, lowNew).eqz(), () => f.return(i32(1)));
  f.if(exchange(f, high, highOld, highNew).eqz(), () => {
    // Somebody changed the second half: the first one is taken back, and all is looked at again. By subtraction, since others may have
    // added to the first group meanwhile; what else they did to the same bytes cannot be told apart.
    f.drop(f.load("i64.atomic.rmw.sub", low, 0, lowNew.sub(lowOld)));
    f.return(i32(1));
  });
  unlock();
  f.return(i32(0));
  f.unreachable();
  return func;
}
