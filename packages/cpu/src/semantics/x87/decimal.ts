import { type I64, i32, i64, i64Halves } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { Fpx } from "../float/number.ts";
import { defineHelper } from "../helpers.ts";
import { beginX87 } from "./control.ts";
import { isEmpty, readRegister, returned, setFlags } from "./stack.ts";
import { storeTen } from "./transfer.ts";

/** Packed decimal: 18 digits in nine bytes, the sign in bit 7 of the tenth. */

const BYTES = 9;
const LIMIT = 10 ** 18;
/** What FBSTP stores for a number that does not fit: FFFFC000000000000000h. */
const INDEFINITE = { low: i64Halves(0, -0x40000000), high: i32(0xffff) };

// (low eight bytes, high two bytes): pushes
defineHelper("x87LoadDecimal", ["i64", "i32"], undefined, (h) => {
  const { f } = h;
  const low = f.var("i64", h.param<"i64">(0));
  const value = f.var("i64", i64(0));
  const add = (byte: I64) => {
    const b = f.let(byte);
    value.set(value.get().mul(100).add(b.shrU(4).mul(10)).add(b.and(15)));
  };
  add(h.param<"i32">(1).and(0xff).extU());
  const left = f.var("i32", i32(BYTES - 1));
  f.loop((again) => {
    add(low.get().shrU(56));
    low.set(low.get().shl(8));
    left.set(left.get().sub(1));
    f.brIf(again, left.get());
  });
  setFlags(h, 0);
  const x = returned(h, h.call("x87FromInteger", value.get()));
  h.callVoid("x87Push", x.se.or(h.param<"i32">(1).and(0x8000)), x.sig);
});
define("FBLD", "df /4 Mt", (o, i) => {
  beginX87(o, i);
  const { f } = o;
  const host = o.hostRead(i.address(), 10);
  const low = f.let(f.load<"i64">("i64.load", host));
  o.callVoid("x87LoadDecimal", low, f.let(f.load<"i32">("i32.load16_u", host, 8)));
});

// () → the low eight bytes of ST(0) in decimal, the high two in the state
defineHelper("x87StoreDecimal", [], "i64", (h) => {
  const { f } = h;
  const value = f.var("i64", h.call("x87ToInteger", i32(4), i32(64)));
  const sign = f.let(f.select(isEmpty(h, 0), i32(0), readRegister(h, 0).se.and(0x8000)));
  f.if(value.get().ltS(0), () => value.set(i64(0).sub(value.get())));
  f.if(value.get().geU(i64(LIMIT)), () => {
    // Stack faults keep their flag, others lose those of rounding.
    h.store32(State.fpFlags, h.load32(State.fpFlags).and(Fpx.sf).or(Fpx.ie));
    h.store32(State.fpSignExp, INDEFINITE.high);
    f.return(INDEFINITE.low);
  });
  const low = f.var("i64", i64(0));
  const byte = f.var("i64");
  const done = f.var("i32", i32(BYTES));
  const take = () => {
    const pair = f.let(value.get().remU(100));
    byte.set(pair.divU(10).shl(4).or(pair.remU(10)));
    value.set(value.get().divU(100));
    done.set(done.get().sub(1));
  };
  f.loop((again) => {
    take();
    low.set(low.get().shrU(8).or(byte.get().shl(56)));
    f.brIf(again, done.get().gtU(1));
  });
  take();
  h.store32(State.fpSignExp, byte.get().wrap().or(sign));
  f.return(low.get());
});
define("FBSTP", "df /6 Mt", (o, i) => {
  beginX87(o, i);
  storeTen(o, i, o.call<"i64">("x87StoreDecimal"));
});
