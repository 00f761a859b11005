import { type I64, i32, i64, type Var } from "@xenoserver/wasm";
import { PAIR_LOCK_WORD } from "../../state/layout.ts";
import { define } from "../define.ts";
import { bitsOf, type Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";

/** The eight encodings that ADD, OR, ADC, SBB, AND, SUB, XOR and CMP share; `n` is their place in that row. */
function aluEncodings(n: number): string[] {
  const op = (low: number) => (n * 8 + low).toString(16).padStart(2, "0");
  return [
    `${op(0)} Eb,Gb`,
    `${op(1)} Ev,Gv`,
    `${op(2)} Gb,Eb`,
    `${op(3)} Gv,Ev`,
    `${op(4)} AL,Ib`,
    `${op(5)} eAX,Iz`,
    `80 /${n} Eb,Ib`,
    `81 /${n} Ev,Iz`,
    `82 /${n} Eb,Ib i64`,
    `83 /${n} Ev,Ibs`,
  ];
}

type Compute = (o: Ops, a: I64, b: I64, i: Instruction) => { res: I64; flags: () => void };
type Emit = (o: Ops, i: Instruction) => void;

/**
 * Defines a two-operand operation. Flags are set after the destination is written, so that a faulting store leaves the
 * old ones; inside a locked loop only values are computed.
 * @param ofOne  what it is on one register, where there is less to it
 */
function alu(name: string, n: number, compute: Compute, ofOne?: Emit): void {
  define(
    name,
    aluEncodings(n),
    (o, i) => {
      if (ofOne && i.isOfOneRegister) return ofOne(o, i);
      const [dst, src] = i.operands;
      const b = src.readS();
      let flags = () => {};
      // Flags come from values of the last round of a locked loop: they live in variables.
      o.modify(dst, i, (a) => {
        const result = compute(o, a, b, i);
        flags = result.flags;
        return result.res;
      });
      flags();
    },
    { lockable: true },
  );
}

const clear: Emit = (o, i) => {
  i.operands[0].write(i64(0));
  o.setFlags({ kind: "logic", res: i64(0) });
};
/** AND or OR of a register with itself; 32 bits of it are written all the same, which clears the rest. */
const keep: Emit = (o, i) => {
  const res = i.operands[0].readS();
  i.operands[0].write(res);
  o.setFlags({ kind: "logic", res });
};

function bitwise(name: string, n: number, operator: "or" | "and" | "xor", ofOne: Emit): void {
  const compute: Compute = (o, a, b) => {
    const res = o.f.let(a[operator](b));
    return { res, flags: () => o.setFlags({ kind: "logic", res }) };
  };
  alu(name, n, compute, ofOne);
}

const narrow = (o: Ops, i: Instruction, v: I64): I64 => o.f.let(v.signExtend(bitsOf(i.operands[0].width)));

alu("ADD", 0, (o, a, b, i) => {
  const res = narrow(o, i, a.add(b));
  return { res, flags: () => o.setFlags({ kind: "add", a, b, res }) };
});
bitwise("OR", 1, "or", keep);
alu("ADC", 2, (o, a, b, i) => {
  const carry = o.carry();
  const res = narrow(o, i, a.add(b).add(carry));
  return { res, flags: () => o.setFlags({ kind: "adc", a, b, res, carry }) };
});
alu("SBB", 3, (o, a, b, i) => {
  const carry = o.carry();
  const res = narrow(o, i, a.sub(b).sub(carry));
  return { res, flags: () => o.setFlags({ kind: "sbb", a, b, res, carry }) };
});
bitwise("AND", 4, "and", keep);
alu(
  "SUB",
  5,
  (o, a, b, i) => {
    const res = narrow(o, i, a.sub(b));
    return { res, flags: () => o.setFlags({ kind: "sub", a, b, res: () => res }) };
  },
  clear,
);
bitwise("XOR", 6, "xor", clear);

define("CMP", aluEncodings(7), (o, i) => {
  const a = i.operands[0].readS();
  const b = i.operands[1].readS();
  o.setFlags({ kind: "sub", a, b, res: () => narrow(o, i, a.sub(b)) });
});

define("TEST", [
  "84 Eb,Gb",
  "85 Ev,Gv",
  "a8 AL,Ib",
  "a9 eAX,Iz",
  "f6 /0 Eb,Ib",
  "f6 /1 Eb,Ib",
  "f7 /0 Ev,Iz",
  "f7 /1 Ev,Iz",
], (o, i) => {
  const a = i.operands[0].readS();
  o.setFlags({ kind: "logic", res: i.isOfOneRegister ? a : o.f.let(a.and(i.operands[1].readS())) });
});

function unary(
  name: string,
  encodings: string[],
  compute: (o: Ops, a: I64, i: Instruction) => { res: I64; flags?: () => void },
): void {
  define(
    name,
    encodings,
    (o, i) => {
      let flags: (() => void) | undefined;
      o.modify(i.operands[0], i, (a) => {
        const result = compute(o, a, i);
        flags = result.flags;
        return result.res;
      });
      flags?.();
    },
    { lockable: true },
  );
}
unary("INC", ["fe /0 Eb", "ff /0 Ev", "40+r Zv i64"], (o, a, i) => {
  const res = narrow(o, i, a.add(1));
  return { res, flags: () => o.setFlags({ kind: "inc", a, res }) };
});
unary("DEC", ["fe /1 Eb", "ff /1 Ev", "48+r Zv i64"], (o, a, i) => {
  const res = narrow(o, i, a.sub(1));
  return { res, flags: () => o.setFlags({ kind: "dec", a, res }) };
});
unary("NEG", ["f6 /3 Eb", "f7 /3 Ev"], (o, a, i) => {
  const res = narrow(o, i, i64(0).sub(a));
  return { res, flags: () => o.setFlags({ kind: "sub", a: i64(0), b: a, res: () => res }) };
});
unary("NOT", ["f6 /2 Eb", "f7 /2 Ev"], (o, a) => ({ res: o.f.let(a.not()) }));

define(
  "XADD",
  ["0f c0 Eb,Gb", "0f c1 Ev,Gv"],
  (o, i) => {
    const [dst, src] = i.operands;
    const b = src.readS();
    let before: I64 = b;
    let res: I64 = b;
    o.modify(dst, i, (a) => {
      before = a;
      res = narrow(o, i, a.add(b));
      return res;
    });
    // With the same register twice the sum stays: the destination is written last.
    src.write(before);
    if (dst.kind !== "mem") dst.write(res);
    o.setFlags({ kind: "add", a: before, b, res });
  },
  { lockable: true },
);

define(
  "CMPXCHG",
  ["0f b0 Eb,Gb", "0f b1 Ev,Gv"],
  (o, i) => {
    const [dst, src] = i.operands;
    const width = dst.width;
    const accumulator = o.readGprS(0, width);
    const replacement = src.readS();
    let before: I64 = accumulator;
    if (dst.kind === "mem") {
      o.modify(dst, i, (a) => {
        before = a;
        return o.f.let(o.f.select(a.eq(accumulator), replacement, a));
      });
    } else {
      // A register that does not compare equal is not written at all: its upper half stays.
      before = dst.readS();
      o.f.if(before.eq(accumulator), () => dst.write(replacement));
    }
    const differs = o.f.let(accumulator.ne(before));
    o.f.if(differs, () => o.writeGpr(0, width, before));
    o.setFlags({ kind: "sub", a: accumulator, b: before, res: () => narrow(o, i, accumulator.sub(before)) });
  },
  { lockable: true },
);

define(
  "XCHG",
  ["86 Eb,Gb", "87 Ev,Gv", "90+r Zv,eAX"],
  (o, i) => {
    const [dst, src] = i.operands;
    const b = src.readS();
    let before: I64 = b;
    if (dst.kind === "mem") {
      // Locked with or without the prefix.
      o.checkOperandWrite();
      o.lockedChange(i.address(), dst.width, (a) => {
        before = a;
        return b;
      });
      src.write(before);
    } else {
      before = dst.readS();
      dst.write(b);
      src.write(before);
    }
  },
  { lockable: true },
);

define("CMPXCHG8B", "0f c7 /1 Mq w0", (o, i) => comparePair(o, i, 4), { lockable: true });
define("CMPXCHG16B", "0f c7 /1 Mx w1", (o, i) => comparePair(o, i, 8), { lockable: true });

function comparePair(o: Ops, i: Instruction, half: 4 | 8): void {
  const { f } = o;
  const at = i.address();
  if (half === 8) f.if(at.wrap().and(15), () => o.raise(13));
  const [eax, edx] = [o.readGpr(0, half), o.readGpr(2, half)];
  const [ebx, ecx] = [o.readGpr(3, half), o.readGpr(1, half)];
  const equal = f.var("i32");
  const [lowNow, highNow] = [f.var("i64"), f.var("i64")];
  o.checkOperandWrite();
  if (half === 4) {
    o.lockedChange(at, 8, (old) => {
      lowNow.set(old.zeroExtend(32));
      highNow.set(old.shrU(32));
      equal.set(lowNow.get().eq(eax).and(highNow.get().eq(edx)));
      return f.select(equal.get(), ebx.or(ecx.shl(32)), old);
    });
  } else o.update(at, 16, (host) => emitPair16(o, host, equal, lowNow, highNow, [eax, edx, ebx, ecx]));
  f.if(equal.get().eqz(), () => {
    o.writeGpr(0, half, lowNow.get());
    o.writeGpr(2, half, highNow.get());
  });
  const old = o.arithmeticFlags();
  o.setArithmeticFlags(old.and(~0x40).or(equal.get().extU().shl(6)));
}

/**
 * WebAssembly has no 16-byte atomics. A spin word in the engine's shared table orders all CMPXCHG16B of a domain against
 * one another; against plain stores of other vcpus each half is atomic by itself.
 */
function emitPair16(
  o: Ops,
  host: ReturnType<Ops["hostRead"]>,
  equal: Variable32,
  low: Variable64,
  high: Variable64,
  r: readonly I64[],
): void {
  const { f } = o;
  const [eax, edx, ebx, ecx] = r;
  const lock = i32(PAIR_LOCK_WORD);
  f.loop((again) => f.brIf(again, f.load<"i32">("i32.atomic.rmw.cmpxchg", lock, 0, i32(0), i32(1))));
  low.set(f.load("i64.load", host));
  high.set(f.load("i64.load", host, 8));
  equal.set(low.get().eq(eax).and(high.get().eq(edx)));
  f.if(equal.get(), () => {
    f.store("i64.store", host, ebx);
    f.store("i64.store", host, ecx, 8);
  });
  f.store("i32.atomic.store", lock, i32(0));
}
type Variable32 = Var<"i32">;
type Variable64 = Var<"i64">;
