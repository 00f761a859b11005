import { type I32, type I64, i32, i64, i64Halves } from "@xenoserver/wasm";
import { Seg } from "../../decode/decoded.ts";
import {
  ITLB_BYTES,
  ITLB_OFFSET,
  REGION_CACHE_HALF_BYTES,
  REGION_CACHE_OFFSET,
  Slot,
  State,
  TLB_BYTES,
  TLB_OFFSET,
} from "../../state/layout.ts";
import { dpl, FLAT_CODE64, FLAT_DATA, systemCall, systemReturn } from "../../system/fast-call.ts";
import { interruptReturn } from "../../system/interrupts.ts";
import { Attr, Efer } from "../../system/registers.ts";
import { define } from "../define.ts";
import { Flag } from "../flags.ts";
import type { Ops } from "../ops.ts";

/**
 * Transfers between a kernel and its programs, as 64-bit kernels make them thousands of times a second. What is unusual in any
 * way (another mode, a watched vcpu, a flag on which the mode depends) is left to the host program.
 */

/** Flags whose change is more than a change of a bit. */
const UNUSUAL = Flag.tf | Flag.vm | Flag.ac;
const SYSTEM = Flag.if | Flag.df | Flag.iopl | Flag.nt | Flag.id | Flag.vif | Flag.vip;
/** The halves of flat descriptors, as operating systems write them. */
export const FLAT_LOW = 0xffff;
export const codeHigh = (level: number): number => 0x00af9b00 | (level << 13);
const dataHigh = (level: number): number => 0x00cf9300 | (level << 13);

/** Leaves to the host program if the condition holds. */
export const unless = (o: Ops, unusual: I32): void => o.f.if(unusual, () => o.leaveToHost(), undefined, false);

export function setFlat(o: Ops, segment: number, selector: I32, attributes: number): void {
  o.setState32(State.selector + segment * 4, selector);
  o.setState64(Slot.segBase + segment * 8, i64(0));
  o.setState32(State.segLimit + segment * 4, i32(-1));
  o.setState32(State.segAttr + segment * 4, i32(attributes));
}
/** Makes a privilege level the current one, with what follows from it in the usual modes. */
export function setLevel(o: Ops, level: 0 | 3): void {
  const user = level === 3;
  o.setState32(State.cpl, i32(level));
  o.setState32(State.tlb, o.vb.add(TLB_OFFSET + (user ? 0 : TLB_BYTES)));
  o.setState32(State.itlb, o.vb.add(ITLB_OFFSET + (user ? ITLB_BYTES : 0)));
  o.setState32(State.regionCache, o.vb.add(REGION_CACHE_OFFSET + (user ? 0 : REGION_CACHE_HALF_BYTES)));
}
/** Loads RFLAGS from a value without unusual bits; interrupts that it lets in are looked at soon. */
function setFlags(o: Ops, value: I64): void {
  const old = o.state32(State.flagsSystem);
  const next = o.f.let(value.wrap().and(SYSTEM));
  o.setState32(State.flagsSystem, next);
  o.setArithmeticFlags(value);
  o.f.if(next.and(Flag.if).and(old.not()), () => o.letInterruptsIn());
}
const notUsual = (o: Ops): I32 => o.state32(State.usualModes).eqz().or(o.state32(State.efer).and(Efer.sce).eqz());

define(
  "SYSCALL",
  "0f 05",
  (o, i) => {
    const { f } = o;
    if (!i.mode64) return o.leaveToHost();
    unless(o, notUsual(o).or(o.state32(State.cpl).ne(3)));
    const flags = f.let(o.rflags().and(~Flag.rf));
    const next = f.let(flags.and(o.state32(State.sfmask).extU().not()));
    unless(o, next.wrap().and(UNUSUAL).or(flags.wrap().and(Flag.tf)));
    const selector = f.let(o.state32(State.star + 4).and(0xfffc));
    const target = o.state64(State.lstar);
    o.setGpr(1, o.nextIp());
    o.setGpr(11, flags);
    setFlat(o, Seg.cs, selector, FLAT_CODE64 | dpl(0));
    setFlat(o, Seg.ss, selector.add(8).and(0xffff), FLAT_DATA | dpl(0));
    setLevel(o, 0);
    setFlags(o, next);
    o.jumpTo(target);
  },
  { ends: true, system: systemCall },
);

define(
  "SYSRET",
  "0f 07",
  (o, i) => {
    const { f } = o;
    if (!i.mode64 || i.width !== 8) return o.leaveToHost();
    const target = f.let(o.getGpr(1));
    const flags = f.let(o.getGpr(11));
    const beyond = target.shrU(47).eqz().eqz();
    unless(o, notUsual(o).or(o.state32(State.cpl)).or(beyond).or(flags.wrap().and(UNUSUAL)));
    const base = f.let(o.state32(State.star + 4).shrU(16));
    setFlat(o, Seg.cs, base.add(16).or(3).and(0xffff), FLAT_CODE64 | dpl(3));
    setFlat(o, Seg.ss, base.add(8).or(3).and(0xffff), FLAT_DATA | dpl(3));
    setLevel(o, 3);
    setFlags(o, flags);
    o.jumpTo(target);
  },
  { ends: true, system: systemReturn },
);

/** Leaves to the host program unless a selector's descriptor is the flat one of a level. */
function needFlat(o: Ops, selector: I32, high: I32): void {
  const { f } = o;
  const offset = f.let(selector.and(0xfff8));
  unless(o, selector.and(4).or(offset.add(7).gtU(o.state32(State.gdtLimit))));
  const descriptor = o.load(f.let(o.state64(State.gdtBase).add(offset.extU())), 8);
  unless(o, descriptor.wrap().ne(FLAT_LOW).or(descriptor.shrU(32).wrap().ne(high)));
}
/** Data segments that a program could not use would become null on the way to it. */
function anyInnerSegment(o: Ops): I32 {
  const inner = (segment: number): I32 => {
    const attributes = o.state32(State.segAttr + segment * 4);
    return attributes
      .and(Attr.present)
      .ne(0)
      .and(attributes.and(dpl(3)).ne(dpl(3)));
  };
  return [Seg.es, Seg.ds, Seg.fs, Seg.gs].map(inner).reduce((a, b) => a.or(b));
}

define(
  "IRET",
  "cf",
  (o, i) => {
    const { f } = o;
    if (!i.mode64 || i.width !== 8) return o.leaveToHost();
    const system = o.state32(State.flagsSystem);
    unless(o, notUsual(o).or(o.state32(State.cpl)).or(system.and(Flag.nt)).or(o.state32(State.nmiBlocked)));
    const sp = f.let(o.getGpr(4));
    const [ip, cs, flags, nextSp, ss] = [0, 8, 16, 24, 32].map((offset) => o.load(f.let(sp.add(offset)), 8));
    const level = f.let(cs.wrap().and(3));
    const selector = f.let(cs.wrap().and(0xffff));
    const stack = f.let(ss.wrap().and(0xffff));
    const strange = level.ne(0).and(level.ne(3)).or(ip.shl(16).shrS(16).ne(ip));
    unless(o, strange.or(flags.wrap().and(UNUSUAL)));
    needFlat(o, selector, f.select(level, i32(codeHigh(3)), i32(codeHigh(0))));
    // A kernel that goes on with the stack segment that it has need not load it anew.
    const sameStack = f.let(level.eqz().and(stack.eq(o.state32(State.selector + Seg.ss * 4))));
    f.if(sameStack.eqz(), () => {
      unless(o, level.eqz().or(stack.and(3).ne(3)).or(anyInnerSegment(o)));
      needFlat(o, stack, i32(dataHigh(3)));
    });
    o.setState32(State.selector + Seg.cs * 4, selector);
    o.setGpr(4, nextSp);
    f.if(level, () => {
      setFlat(o, Seg.cs, selector, FLAT_CODE64 | dpl(3));
      setFlat(o, Seg.ss, stack, FLAT_DATA | dpl(3));
      setLevel(o, 3);
    });
    setFlags(o, f.let(flags.and(i64Halves(~Flag.rf, 0))));
    o.jumpTo(ip);
  },
  { ends: true, system: (m, d) => interruptReturn(m, d.operandSize) },
);
