import {
  type Address,
  type AddressType,
  type Func,
  type I32,
  type I64,
  i32,
  i64,
  type ModuleBuilder,
} from "@xenoserver/wasm";
import { type Decoded, Seg } from "../decode/decoded.ts";
import { Access } from "../mmu/emit.ts";
import { emitTlbLookup } from "../mmu/tlb.ts";
import { Flag } from "../semantics/flags.ts";
import { codeHigh, FLAT_LOW, setFlat, setLevel } from "../semantics/integer/privilege.ts";
import { CodeMode, Slot, State, TLB_BYTES, TLB_OFFSET, Tlb } from "../state/layout.ts";
import { dpl, FLAT_CODE64 } from "../system/fast-call.ts";
import type { AccessHelpers } from "./calling-ops.ts";
import { type HandlerExits, InterpOps } from "./interp-ops.ts";

const PAGE_FAULT = 14;
const GATE_BYTES = 16;
/** Bits of a gate's type byte: present and a 64-bit interrupt or trap gate, of whatever level; bit 0 tells a trap gate. */
const GATE_MASK = 0x9e;
const GATE_TYPE = 0x8e;
const GPR_SP = 4 * 8;
/** SS, RSP, RFLAGS, CS, RIP and the error code. */
const FRAME_BYTES = 48;

/** State, without an instruction. */
class StateOps extends InterpOps {
  constructor(f: Func["fn"], helpers: AccessHelpers) {
    const mode = CodeMode.code64 | CodeMode.stack32 | CodeMode.flat;
    super(f, f.param(0), helpers, { get: () => i32(0) }, {} as HandlerExits, {} as Decoded, mode);
  }
}

/**
 * (vb) → 1 if the page fault in the state was delivered: `Slot.rip` was that of the faulting instruction, and now is that of the
 * handler. A 64-bit kernel with flat segments has them thousands of times a second. All else, and whatever is unusual about the
 * gate or the stack, gets 0 and finds the state as it was: the host program delivers it (system/interrupts.ts).
 */
export function defineDeliverPageFault(m: ModuleBuilder, translate: Func, helpers: AccessHelpers): Func {
  const func = m.func(["i32"], ["i32"]);
  const f = func.fn;
  const o = new StateOps(f, helpers);
  const { vb } = o;
  const state = (offset: number): I32 => o.state32(offset);
  f.if(state(State.faultVector).ne(PAGE_FAULT).or(state(State.pending)).or(state(State.mmioReady)), () =>
    f.return(i32(0)),
  );
  const flags = f.let(state(State.flagsSystem));
  f.if(state(State.usualModes).eqz().or(flags.and(Flag.ac)), () => f.return(i32(0)));
  const [address, error] = [f.let(o.state64(State.faultAddress)), f.let(state(State.faultErrorCode))];
  const [cpl, tlb] = [f.let(state(State.cpl)), f.let(state(State.tlb))];
  const supervisor = f.let(vb.add(TLB_OFFSET + TLB_BYTES));
  o.setState32(State.cpl, i32(0));
  o.setState32(State.tlb, supervisor);
  const find = (at: I64, bytes: number, tag: number) => emitTlbLookup({ f, tlbBase: () => supervisor }, at, bytes, tag);

  f.block((refused) => {
    /** Host address of what a supervisor finds there, on one page. */
    const host = (at: I64, bytes: number, tag: number): Address => {
      const access = tag === Tlb.write ? Access.write : Access.read;
      const first = find(at, bytes, tag);
      f.if(first.matches.eqz(), () => {
        f.brIf(refused, f.call<AddressType>(translate, vb, at, i32(access)).eqz());
        f.brIf(refused, find(at, bytes, tag).matches.eqz());
      });
      return f.let(find(at, bytes, tag).host);
    };
    const read64 = (at: I64): I64 => f.let(f.load<"i64">("i64.load", host(at, 8, Tlb.read)));

    f.brIf(refused, state(State.idtLimit).ltU(PAGE_FAULT * GATE_BYTES + GATE_BYTES - 1));
    const gateAt = f.let(o.state64(State.idtBase).add(PAGE_FAULT * GATE_BYTES));
    const gate = read64(gateAt);
    const [gateLow, gateHigh] = [f.let(gate.wrap()), f.let(gate.shrU(32).wrap())];
    const type = f.let(gateHigh.shrU(8).and(0xff));
    f.brIf(refused, type.and(GATE_MASK).ne(GATE_TYPE).or(gateHigh.and(7)));
    const above = read64(f.let(gateAt.add(8)));
    const offset = f.let(
      above.shl(32).or(
        gateLow
          .and(0xffff)
          .or(gateHigh.and(0xffff0000 | 0))
          .extU(),
      ),
    );

    const selector = f.let(gateLow.shrU(16));
    const entry = f.let(selector.and(0xfff8));
    f.brIf(refused, selector.and(4).or(entry.add(7).gtU(state(State.gdtLimit))));
    const descriptor = read64(f.let(o.state64(State.gdtBase).add(entry.extU())));
    f.brIf(
      refused,
      descriptor
        .wrap()
        .ne(FLAT_LOW)
        .or(descriptor.shrU(32).wrap().ne(codeHigh(0))),
    );

    const oldSp = f.let(o.state64(GPR_SP));
    const top = f.var("i64", oldSp);
    f.if(cpl, () => top.set(read64(f.let(o.state64(State.trBase).add(4)))));
    const sp = f.let(top.get().and(i64(-16)).sub(FRAME_BYTES));
    const frame = host(sp, FRAME_BYTES, Tlb.write);

    const push = (at: number, value: I64) => f.store("i64.store", frame, value, at);
    push(0, error.extU());
    push(8, o.state64(Slot.rip));
    push(16, state(State.selector + Seg.cs * 4).extU());
    push(24, o.rflags().or(Flag.rf));
    push(32, oldSp);
    push(40, state(State.selector + Seg.ss * 4).extU());
    f.if(cpl, () => {
      o.setState32(State.selector + Seg.ss * 4, i32(0));
      o.setState64(Slot.segBase + Seg.ss * 8, i64(0));
      o.setState32(State.segLimit + Seg.ss * 4, i32(0));
      o.setState32(State.segAttr + Seg.ss * 4, i32(0));
    });
    setFlat(o, Seg.cs, selector.and(0xfffc), FLAT_CODE64 | dpl(0));
    setLevel(o, 0);
    const closes = f.select(type.and(1), i32(0), i32(Flag.if));
    o.setState32(State.flagsSystem, flags.and(closes.or(Flag.tf | Flag.nt | Flag.rf | Flag.vm).not()));
    o.setState64(State.cr2, address);
    o.setState64(GPR_SP, sp);
    o.setState64(Slot.rip, offset);
    f.return(i32(1));
  });

  // A translation that failed left a fault of its own.
  o.setState32(State.cpl, cpl);
  o.setState32(State.tlb, tlb);
  o.setState32(State.pending, i32(0));
  o.setState32(State.faultVector, i32(PAGE_FAULT));
  o.setState64(State.faultAddress, address);
  o.setState32(State.faultErrorCode, error);
  f.return(i32(0));
  f.unreachable();
  return func;
}
