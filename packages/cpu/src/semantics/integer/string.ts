import { type I32, type I64, i32, i64, type Var } from "@xenoserver/wasm";
import { Slot, State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { bitsOf, type Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";

const [RAX, RCX, RSI, RDI] = [0, 1, 6, 7];
/** Elements (or direct chunks) after which a repeated instruction lets interrupts in. */
const PAUSE_AFTER = 4096;
const CHUNK_WEIGHT = 64;

/** What one string instruction does with one element. */
interface StringOperation {
  readonly source: boolean;
  readonly destination: boolean;
  /** ZF ends the repetition (CMPS, SCAS). */
  readonly compares: boolean;
  element(o: Ops, width: number, source: () => I64, destination: () => I64): void;
  /** Many elements at once where both places are plain memory; returns how many were done. */
  bulk?(o: Ops, width: number, limit: I64, source: I64, destination: I64): I64;
}

function linear(o: Ops, i: Instruction, reg: number, base: I64): I64 {
  const at = o.f.let(o.readGpr(reg, i.addressSize).add(base));
  return i.mode64 ? at : o.f.let(at.and(o.const64(-1, 0)));
}
/** The place of one element, in its segment. */
function checked(o: Ops, i: Instruction, reg: number, base: I64, width: number, kind: "read" | "write"): I64 {
  if (!i.mode64) o.checkSegment(reg === RDI ? i32(0) : i.segmentNumber(), o.readGpr(reg, i.addressSize), width, kind);
  return linear(o, i, reg, base);
}

function advance(o: Ops, i: Instruction, reg: number, bytes: I64): void {
  o.writeGpr(reg, i.addressSize, o.f.let(o.readGpr(reg, i.addressSize).add(bytes)));
}

function emitString(o: Ops, i: Instruction, width: number, s: StringOperation): void {
  const { f } = o;
  const esBase = i.mode64 ? i64(0) : o.state64(Slot.segBase);
  const dsBase = s.source ? i.segmentBase() : i64(0);
  const backwards = o.directionFlag();
  const step = f.let(f.select(backwards, i64(-width), i64(width)));
  const once = (): void => {
    const source = () => checked(o, i, RSI, dsBase, width, "read");
    const destination = () => checked(o, i, RDI, esBase, width, s.compares ? "read" : "write");
    s.element(o, width, source, destination);
    if (s.source) advance(o, i, RSI, step);
    if (s.destination) advance(o, i, RDI, step);
  };
  if (i.rep === 0) return once();
  // Whoever steps sees each element.
  const budget = f.var("i32", f.select(o.shouldPause(), i32(1), i32(PAUSE_AFTER)));
  f.block((end) => {
    f.brIf(end, o.readGpr(RCX, i.addressSize).eqz());
    f.loop((again) => {
      const count = o.readGpr(RCX, i.addressSize);
      f.block((elementDone) => {
        if (s.bulk)
          emitBulk(o, i, width, s, { count, backwards, dsBase, esBase, budget, done: () => f.br(elementDone) });
        once();
        o.writeGpr(RCX, i.addressSize, o.f.let(count.sub(1)));
        budget.set(budget.get().sub(1));
        if (s.compares) f.brIf(end, i.rep === 0xf3 ? o.condition(5) : o.condition(4));
      });
      f.brIf(end, o.readGpr(RCX, i.addressSize).eqz());
      f.if(budget.get().leS(0), () => {
        o.requestCheck();
        o.restart();
      });
      f.br(again);
    });
  });
}

interface BulkState {
  readonly count: I64;
  readonly backwards: I32;
  readonly dsBase: I64;
  readonly esBase: I64;
  readonly budget: Var<"i32">;
  done(): void;
}

function emitBulk(o: Ops, i: Instruction, width: number, s: StringOperation, b: BulkState): void {
  const { f } = o;
  // Where segments have limits, each element is checked against them.
  const unlimited = i.mode64 ? i32(1) : o.state32(State.codeMode).shrU(3).and(i.segmentNumber().leU(3));
  f.if(b.backwards.eqz().and(b.budget.get().gtS(1)).and(unlimited), () => {
    const source = s.source ? linear(o, i, RSI, b.dsBase) : i64(0);
    const destination = linear(o, i, RDI, b.esBase);
    // Whole elements up to the end of either page.
    const room = (at: I64) => f.let(i64(4096).sub(at.and(4095)).shrU(Math.log2(width)));
    const least = (x: I64, y: I64) => f.let(f.select(x.ltU(y), x, y));
    let limit = least(b.count, room(destination));
    if (s.source) limit = least(limit, room(source));
    const done = f.let(s.bulk!(o, width, limit, source, destination));
    f.if(done.eqz().eqz(), () => {
      const bytes = f.let(done.mul(width));
      if (s.source) advance(o, i, RSI, bytes);
      advance(o, i, RDI, bytes);
      o.writeGpr(RCX, i.addressSize, f.let(b.count.sub(done)));
      b.budget.set(b.budget.get().sub(CHUNK_WEIGHT));
      b.done();
    });
  });
}

function string(name: string, byteOpcode: string, wideOpcode: string, s: StringOperation): void {
  define(name, [`${byteOpcode} a`], (o, i) => emitString(o, i, 1, s));
  define(`${name} wide`, [`${wideOpcode} a`], (o, i) => emitString(o, i, i.width, s));
}

string("MOVS", "a4", "a5", {
  source: true,
  destination: true,
  compares: false,
  element: (o, width, source, destination) => {
    const value = o.load(source(), width);
    o.store(destination(), width, value);
  },
  bulk: (o, width, limit, source, destination) => {
    const { f } = o;
    const done = f.var("i64", i64(0));
    const from = o.directHost(source, "read");
    const to = o.directHost(destination, "write");
    f.if(from.matches.and(to.matches).and(limit.eqz().eqz()), () => {
      const [hostFrom, hostTo] = [f.let(from.host), f.let(to.host)];
      const bytes = f.let(limit.mul(width).wrap());
      // A destination shortly behind the source repeats a pattern, which a block copy would not.
      f.if(hostTo.sub(hostFrom).geU(f.address(bytes)).or(hostTo.eq(hostFrom)), () => {
        f.memoryCopy(hostTo, hostFrom, bytes);
        done.set(limit);
      });
    });
    return done.get();
  },
});

string("STOS", "aa", "ab", {
  source: false,
  destination: true,
  compares: false,
  element: (o, width, _source, destination) => o.store(destination(), width, o.readGpr(RAX, width)),
  bulk: (o, width, limit, _source, destination) => {
    const { f } = o;
    const done = f.var("i64", i64(0));
    const value = o.readGpr(RAX, width);
    const to = o.directHost(destination, "write");
    f.if(to.matches.and(limit.eqz().eqz()), () => {
      const host = f.let(to.host);
      const bytes = f.let(limit.mul(width).wrap());
      const low = value.and(0xff);
      const ones = o.const64(0x01010101, 0x01010101);
      const uniform = low.mul(ones).zeroExtend(bitsOf(width)).eq(value);
      f.if(
        uniform,
        () => f.memoryFill(host, value.wrap().and(0xff), bytes),
        () => {
          const at = f.var(f.addressType, host);
          const end = f.let(host.add(f.address(bytes)));
          f.loop((again) => {
            o.storeHost(at.get(), width, value);
            at.set(at.get().add(width));
            f.brIf(again, at.get().ltU(end));
          });
        },
      );
      done.set(limit);
    });
    return done.get();
  },
});

string("LODS", "ac", "ad", {
  source: true,
  destination: false,
  compares: false,
  element: (o, width, source) => o.writeGpr(RAX, width, o.load(source(), width)),
});

const compare = (o: Ops, width: number, a: I64, b: I64): void =>
  o.setFlags({ kind: "sub", a, b, res: () => o.f.let(a.sub(b).signExtend(bitsOf(width))) });

string("CMPS", "a6", "a7", {
  source: true,
  destination: true,
  compares: true,
  element: (o, width, source, destination) => {
    const a = o.loadS(source(), width);
    compare(o, width, a, o.loadS(destination(), width));
  },
});
string("SCAS", "ae", "af", {
  source: false,
  destination: true,
  compares: true,
  element: (o, width, _source, destination) => compare(o, width, o.readGprS(RAX, width), o.loadS(destination(), width)),
});
