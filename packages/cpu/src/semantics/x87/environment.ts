import { type Address, type AddressType, type Fn, type I32, type I64, i32 } from "@xenoserver/wasm";
import { Slot, State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import type { Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { beginControl, initialise, needX87 } from "./control.ts";
import { exponentOf, Status } from "./stack.ts";

/**
 * The environment and the registers in memory: FNSTENV, FLDENV, FNSAVE, FRSTOR.
 *
 * The environment is seven words, or seven doublewords of which the upper halves of the first three are all ones: control,
 * status, tags, offset of the last instruction, its selector (with 11 bits of the opcode above), offset and selector of its operand.
 * In real mode linear addresses stand in the place of offsets: their low 16 bits, and from bit 12 of the selector's place on
 * the bits above (four of them in the 16-bit format), with the opcode below.
 *
 * @see Intel SDM volume 1, figures 8-9 to 8-12
 */

const PENDING = Status.es | Status.busy;
const REGISTER_BYTES = 10;
const TOP_SHIFT = 11;

// () → two bits for each physical register: 0 valid, 1 zero, 2 special, 3 empty
defineHelper("x87Tags", [], "i32", (h) => {
  const { f, vb } = h;
  const tags = f.var("i32", i32(0));
  const n = f.var("i32", i32(8));
  f.loop((again) => {
    n.set(n.get().sub(1));
    const at = f.let(n.get().shl(4).add(vb));
    const x = {
      se: f.let(f.load<"i32">("i32.load16_u", at, State.fpr + 8)),
      sig: f.let(f.load<"i64">("i64.load", at, State.fpr)),
    };
    const normal = f.let(x.sig.ltS(0).and(exponentOf(x).ne(0x7fff)).and(exponentOf(x).ne(0)));
    const zero = x.sig.eqz().and(exponentOf(x).eqz());
    const kind = f.select(normal, i32(0), f.select(zero, i32(1), i32(2)));
    const empty = h.load32(State.fpuEmpty).shrU(n.get()).and(1);
    tags.set(
      tags
        .get()
        .shl(2)
        .or(f.select(empty, i32(3), kind)),
    );
    f.brIf(again, n.get());
  });
  f.return(tags.get());
});

const CR0_PE = 1;
const inRealMode = (h: HelperBody): I32 => h.f.let(h.load32(State.cr0).and(CR0_PE).eqz());
/** Base of CS: the last x87 instruction is taken to be of the segment that runs now. */
const codeBase = (h: HelperBody): I32 => h.load32(Slot.segBase + 8);

for (const step of [2, 4]) {
  // (host address): writes the environment
  defineHelper(`x87StoreEnvironment${step}`, ["address"], undefined, (h) => {
    const { f } = h;
    const host = h.param<AddressType>(0);
    const put = (index: number, low: I32, high: I32) => {
      f.store("i32.store16", host, low, index * step);
      if (step === 4) f.store("i32.store16", host, high, index * step + 2);
    };
    const ones = i32(-1);
    put(0, h.load32(State.fpuControl), ones);
    put(1, h.load32(State.fpuStatus).or(h.load32(State.fpuTop).shl(TOP_SHIFT)), ones);
    put(2, h.call("x87Tags"), ones);
    const dp = h.load32(State.fpuDp);
    const opcode = f.let(h.load32(State.fpuOpcode).and(0x7ff));
    f.if(
      inRealMode(h),
      () => {
        const ip = f.let(h.load32(State.fpuIp).add(codeBase(h)));
        const upper = (address: I32, below: I32) => f.let(address.and(-0x10000).shrU(4).or(below));
        const [ipUpper, dpUpper] = [upper(ip, opcode), upper(dp, i32(0))];
        put(3, ip, ones);
        put(4, ipUpper, ipUpper.shrU(16));
        put(5, dp, ones);
        put(6, dpUpper, dpUpper.shrU(16));
      },
      () => {
        const ip = h.load32(State.fpuIp);
        put(3, ip, ip.shrU(16));
        put(4, i32(0), opcode);
        put(5, dp, dp.shrU(16));
        put(6, i32(0), ones);
      },
    );
  });
  // (host address): takes the environment over
  defineHelper(`x87LoadEnvironment${step}`, ["address"], undefined, (h) => {
    const { f } = h;
    const host = h.param<AddressType>(0);
    const word = (index: number) => f.let(f.load<"i32">("i32.load16_u", host, index * step));
    const whole = (index: number): I32 => f.load(step === 4 ? "i32.load" : "i32.load16_u", host, index * step);
    const status = word(1);
    h.store32(State.fpuStatus, status.and(~(7 << TOP_SHIFT)));
    h.store32(State.fpuTop, status.shrU(TOP_SHIFT).and(7));
    h.callVoid("x87SetControl", word(0));
    const empty = f.var("i32", i32(0));
    const tags = f.var("i32", word(2));
    const n = f.var("i32", i32(8));
    f.loop((again) => {
      const top = tags.get().shrU(14).and(3).eq(3);
      empty.set(empty.get().shl(1).or(top));
      tags.set(tags.get().shl(2));
      n.set(n.get().sub(1));
      f.brIf(again, n.get());
    });
    h.store32(State.fpuEmpty, empty.get());
    f.if(
      inRealMode(h),
      () => {
        const pointer = (index: number) =>
          word(index).or(
            whole(index + 1)
              .and(0x0ffff000)
              .shl(4),
          );
        h.store64(State.fpuIp, f.let(pointer(3).sub(codeBase(h)).extU()));
        h.store64(State.fpuDp, f.let(pointer(5).extU()));
        h.store32(State.fpuOpcode, word(4).and(0x7ff));
      },
      () => {
        h.store64(State.fpuIp, f.let(whole(3).extU()));
        h.store64(State.fpuDp, f.let(whole(5).extU()));
        h.store32(State.fpuOpcode, step === 4 ? f.load<"i32">("i32.load16_u", host, 18).and(0x7ff) : i32(0));
      },
    );
  });
}
/** Half of the registers, from ST(first) on: (host address, first). */
function defineRegisters(name: string, copy: (at: I32, host: Address, f: Fn) => void): void {
  defineHelper(name, ["address", "i32"], undefined, (h) => {
    const { f, vb } = h;
    const host = f.var(h.f.addressType, h.param<AddressType>(0));
    const n = f.var("i32", h.load32(State.fpuTop).add(h.param<"i32">(1)));
    const left = f.var("i32", i32(4));
    f.loop((again) => {
      copy(f.let(n.get().and(7).shl(4).add(vb)), host.get(), f);
      host.set(host.get().add(REGISTER_BYTES));
      n.set(n.get().add(1));
      left.set(left.get().sub(1));
      f.brIf(again, left.get());
    });
  });
}
defineRegisters("x87StoreRegisters", (at, host, f) => {
  f.store("i64.store", host, f.load("i64.load", at, State.fpr));
  f.store("i32.store16", host, f.load("i32.load16_u", at, State.fpr + 8), 8);
});
defineRegisters("x87LoadRegisters", (at, host, f) => {
  f.store("i64.store", at, f.load("i64.load", host), State.fpr);
  f.store("i32.store16", at, f.load("i32.load16_u", host, 8), State.fpr + 8);
});

const stepOf = (i: Instruction): 2 | 4 => (i.width === 2 ? 2 : 4);
/** The pieces of an image: the environment, and two halves of the registers. None is longer than the bounce buffer. */
function piecesOf(o: Ops, i: Instruction): { va: I64; size: number; first: number }[] {
  const environment = 7 * stepOf(i);
  const half = 4 * REGISTER_BYTES;
  const at = i.address();
  return [
    { va: at, size: environment, first: -1 },
    { va: o.f.let(at.add(environment)), size: half, first: 0 },
    { va: o.f.let(at.add(environment + half)), size: half, first: 4 },
  ];
}

define("FNSTENV", "d9 /6 M", (o, i) => {
  needX87(o);
  const step = stepOf(i);
  o.checkOperandWrite();
  o.update(i.address(), 7 * step, (host) => o.callVoid(`x87StoreEnvironment${step}`, host));
  // All exceptions are masked, so that none is pending any longer.
  o.setState32(State.fpuControl, o.state32(State.fpuControl).or(0x3f));
  o.setState32(State.fpuStatus, o.state32(State.fpuStatus).and(~PENDING));
});
/** The processor looks at both ends of an image before it reads the rest: so a fault is reported there. */
function probeEnds(o: Ops, i: Instruction, size: number): void {
  o.hostRead(i.address(), stepOf(i));
  o.hostRead(o.f.let(i.address().add(size - 1)), 1);
}
define("FLDENV", "d9 /4 M", (o, i) => {
  beginControl(o);
  const step = stepOf(i);
  probeEnds(o, i, 7 * step);
  o.callVoid(`x87LoadEnvironment${step}`, o.hostRead(i.address(), 7 * step));
});
define("FNSAVE", "dd /6 M", (o, i) => {
  needX87(o);
  const pieces = piecesOf(o, i);
  // Nothing is written if any part would fault.
  o.checkOperandWrite();
  for (const { va, size } of pieces) o.update(va, size, () => {});
  for (const { va, size, first } of pieces) {
    o.update(va, size, (host) =>
      first < 0
        ? o.callVoid(`x87StoreEnvironment${stepOf(i)}`, host)
        : o.callVoid("x87StoreRegisters", host, i32(first)),
    );
  }
  initialise(o);
});
define("FRSTOR", "dd /4 M", (o, i) => {
  beginControl(o);
  const pieces = piecesOf(o, i);
  probeEnds(o, i, 7 * stepOf(i) + 8 * REGISTER_BYTES);
  for (const { va, size } of pieces) o.hostRead(va, size);
  for (const { va, size, first } of pieces) {
    const host = o.hostRead(va, size);
    if (first < 0) o.callVoid(`x87LoadEnvironment${stepOf(i)}`, host);
    else o.callVoid("x87LoadRegisters", host, i32(first));
  }
});
