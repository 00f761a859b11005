import { type I64, i32, i64 } from "@xenoserver/wasm";
import { EMPTY_TLB_SET, Slot, State, TLB_BYTES, TLB_OFFSET } from "../../state/layout.ts";
import { execute } from "../../system/execute.ts";
import { define } from "../define.ts";
import { ARITHMETIC_FLAGS, Flag } from "../flags.ts";
import type { Ops } from "../ops.ts";

define("PUSH", ["50+r Zv d64", "68 Iz d64", "6a Ibs d64", "ff /6 Ev d64"], (o, i) => {
  const value = i.operands[0].readS();
  o.push(i, i.width, value);
});
define("POP", ["58+r Zv d64", "8f /0 Ev d64"], (o, i) => {
  const [dst] = i.operands;
  if (dst.kind !== "mem") return dst.write(o.pop(i, i.width));
  const before = o.f.let(o.getGpr(4));
  const value = o.pop(i, i.width);
  // The address is formed with the new stack pointer, but a fault must leave the old one.
  const at = i.address();
  const after = o.f.let(o.getGpr(4));
  o.setGpr(4, before);
  o.checkOperandWrite();
  o.store(at, i.width, value);
  o.setGpr(4, after);
});

const SEGMENT_PUSHES = ["06 i64", "0e i64", "16 i64", "1e i64", "0f a0 d64", "0f a8 d64"];
SEGMENT_PUSHES.forEach((encoding, segment) => {
  define(`PUSH ${"ES CS SS DS FS GS".split(" ")[segment]}`, encoding, (o, i) => {
    o.push(i, i.width, o.state32(State.selector + segment * 4).extU());
  });
});

define("PUSHA", "60 i64", (o, i) => {
  const values = [0, 1, 2, 3, 4, 5, 6, 7].map((r) => o.f.let(o.getGpr(r)));
  const sp = o.f.let(o.stackPointer(i));
  values.forEach((value, k) => o.store(o.stackLinear(i, o.f.let(sp.sub((k + 1) * i.width))), i.width, value));
  o.writeGpr(4, i.stackSize, sp.sub(8 * i.width));
});
define("POPA", "61 i64", (o, i) => {
  const sp = o.f.let(o.stackPointer(i));
  const values = [7, 6, 5, 4, 3, 2, 1, 0].map((_, k) =>
    o.load(o.stackLinear(i, o.f.let(sp.add(k * i.width))), i.width),
  );
  [7, 6, 5, 4, 3, 2, 1, 0].forEach((reg, k) => {
    if (reg !== 4) o.writeGpr(reg, i.width, values[k]);
  });
  o.writeGpr(4, i.stackSize, sp.add(8 * i.width));
});

define("ENTER", "c8 Iw,Ib d64", (o, i) => {
  const { f } = o;
  const w = i.width;
  const level = f.let(i.imm2().and(31));
  const frame = f.let(o.stackPointer(i).sub(w));
  o.store(o.stackLinear(i, frame), w, o.f.let(o.getGpr(5)));
  const sp = f.var("i64", frame);
  const bp = f.var("i64", f.let(o.readGpr(5, i.stackSize)));
  const n = f.var("i32", level);
  f.if(level, () => {
    f.while(
      () => n.get().gtU(1),
      () => {
        bp.set(bp.get().sub(w));
        sp.set(sp.get().sub(w));
        o.store(o.stackLinear(i, f.let(sp.get().or(0))), w, o.load(o.stackLinear(i, f.let(bp.get().or(0))), w));
        n.set(n.get().sub(1));
      },
    );
    sp.set(sp.get().sub(w));
    o.store(o.stackLinear(i, f.let(sp.get().or(0))), w, frame);
  });
  // Processors check that the new top of the stack could be written.
  const top = f.let(sp.get().sub(i.imm().and(0xffff).extU()));
  o.update(o.stackLinear(i, top), w, () => {});
  o.writeGpr(5, i.width, frame);
  o.writeGpr(4, i.stackSize, top);
});
define("LEAVE", "c9 d64", (o, i) => {
  const bp = o.readGpr(5, i.stackSize);
  const value = o.load(o.stackLinear(i, bp), i.width);
  o.writeGpr(4, i.stackSize, bp.add(i.width));
  o.writeGpr(5, i.width, value);
});

define("PUSHF", "9c d64", (o, i) => {
  // RF and VM read as 0 on the stack.
  o.push(i, i.width, o.f.let(o.rflags().and(~(Flag.rf | Flag.vm))));
});

/** Flags that POPF may change without a change of how the vcpu runs. */
const QUIET = Flag.if | Flag.df | Flag.nt | Flag.id | Flag.iopl;
define(
  "POPF",
  "9d d64",
  (o, i) => {
    const { f } = o;
    const value = o.load(o.stackLinear(i, o.f.let(o.stackPointer(i))), i.width);
    const cpl = o.state32(State.cpl);
    const old = o.state32(State.flagsSystem);
    const iopl = f.let(old.shrU(12).and(3));
    let mask = f.let(f.select(cpl.eqz(), i32(Flag.iopl), i32(0)).or(f.select(cpl.leU(iopl), i32(Flag.if), i32(0))));
    mask = f.let(
      mask.or(i.width === 2 ? Flag.tf | Flag.df | Flag.nt : Flag.tf | Flag.df | Flag.nt | Flag.ac | Flag.id),
    );
    const next = f.let(old.and(mask.not()).or(value.wrap().and(mask)).and(~Flag.rf));
    f.if(next.xor(old).and(~QUIET), () => o.leaveToHost());
    o.setState32(State.flagsSystem, next);
    o.setArithmeticFlags(value);
    o.writeGpr(4, i.stackSize, o.stackPointer(i).add(i.width));
    f.if(next.and(Flag.if).and(old.not()), () => o.letInterruptsIn());
  },
  { system: execute.popFlags },
);

/** #GP unless CPL ≤ IOPL. */
function needIopl(o: Ops, flags: ReturnType<Ops["state32"]>): void {
  o.f.if(o.state32(State.cpl).gtU(flags.shrU(12).and(3)), () => o.raise(13));
}
define("CLI", "fa", (o) => {
  const flags = o.state32(State.flagsSystem);
  needIopl(o, flags);
  o.setState32(State.flagsSystem, flags.and(~Flag.if));
});
define("STI", "fb", (o) => {
  const flags = o.state32(State.flagsSystem);
  needIopl(o, flags);
  o.setState32(State.flagsSystem, flags.or(Flag.if));
  o.f.if(flags.and(Flag.if).eqz(), () => o.letInterruptsIn());
});
define("CLD", "fc", (o) => o.setState32(State.flagsSystem, o.state32(State.flagsSystem).and(~Flag.df)));
define("STD", "fd", (o) => o.setState32(State.flagsSystem, o.state32(State.flagsSystem).or(Flag.df)));

/** Whether the kernel has switched SMAP on does not matter to these: it may have the flag ready before, or clear it on every entry. */
function setAccess(name: string, encoding: string, set: boolean): void {
  define(name, encoding, (o) => {
    const { f } = o;
    f.if(o.state32(State.cpl), () => o.raise(6));
    const flags = o.state32(State.flagsSystem);
    o.setState32(State.flagsSystem, set ? flags.or(Flag.ac) : flags.and(~Flag.ac));
    const tlb = f.select(o.state32(State.slowAccess), i32(EMPTY_TLB_SET), i32(set ? 2 : 1));
    o.setState32(State.tlb, o.vb.add(tlb.mul(TLB_BYTES)).add(TLB_OFFSET));
  });
}
setAccess("CLAC", "np 0f 01 /1.2", false);
setAccess("STAC", "np 0f 01 /1.3", true);

define("SWAPGS", "0f 01 /7.0 o64", (o) => {
  o.f.if(o.state32(State.cpl), () => o.raise(13));
  const gs = Slot.segBase + 5 * 8;
  const active = o.state64(gs);
  o.setState64(gs, o.state64(State.kernelGsBase));
  o.setState64(State.kernelGsBase, active);
});

const CR4_FSGSBASE = 1 << 16;
function baseAccess(name: string, digit: number, segment: number, write: boolean): void {
  define(name, `f3 0f ae /${digit} Ry o64`, (o, i) => {
    const { f } = o;
    f.if(o.state32(State.cr4).and(CR4_FSGSBASE).eqz(), () => o.raise(6));
    const slot = Slot.segBase + segment * 8;
    if (!write) return i.operands[0].write(o.state64(slot));
    const value: I64 = i.operands[0].read();
    f.if(value.shl(16).shrS(16).ne(value), () => o.raise(13));
    o.setState64(slot, value);
  });
}
baseAccess("RDFSBASE", 0, 4, false);
baseAccess("RDGSBASE", 1, 5, false);
baseAccess("WRFSBASE", 2, 4, true);
baseAccess("WRGSBASE", 3, 5, true);

define("MOV Sreg", ["8c Mw,Sw", "8c Rv,Sw"], (o, i) => {
  const segment = i.imm().and(7).shl(2);
  const selector = o.f.load<"i32">("i32.load", o.vb.add(segment), State.selector);
  i.operands[0].write(o.f.let(selector.extU()));
});

export const ARITHMETIC = i64(ARITHMETIC_FLAGS);
