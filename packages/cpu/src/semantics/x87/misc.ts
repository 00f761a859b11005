import { type I32, i32 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { defineHelper } from "../helpers.ts";
import { finish, unlessEmpty } from "./arith.ts";
import { beginControl, beginX87, needX87 } from "./control.ts";
import { clearFlags, isEmpty, readRegister, Status } from "./stack.ts";

/** Signs, the stack's pointer and tags, and the control word. */

// (mask of the sign bits kept, sign bits inverted)
defineHelper("x87Sign", ["i32", "i32"], undefined, (h) => {
  clearFlags(h);
  const x = unlessEmpty(h, isEmpty(h, 0), () => {
    const old = readRegister(h, 0);
    return { se: h.f.let(old.se.and(h.param<"i32">(0)).xor(h.param<"i32">(1))), sig: old.sig };
  });
  finish(h, 0, x);
});
const sign = (name: string, rm: number, keep: number, invert: number): void =>
  define(name, `d9 /4.${rm}`, (o, i) => {
    beginX87(o, i);
    o.callVoid("x87Sign", i32(keep), i32(invert));
  });
sign("FCHS", 0, 0xffff, 0x8000);
sign("FABS", 1, 0x7fff, 0);

const moveTop = (name: string, rm: number, by: number): void =>
  define(name, `d9 /6.${rm}`, (o, i) => {
    beginX87(o, i);
    o.setState32(State.fpuTop, o.state32(State.fpuTop).add(by).and(7));
    o.setState32(State.fpuStatus, o.state32(State.fpuStatus).and(~Status.c1));
  });
moveTop("FDECSTP", 6, -1);
moveTop("FINCSTP", 7, 1);

const free = (name: string, encoding: string, pop: boolean): void =>
  define(name, encoding, (o, i) => {
    beginX87(o, i);
    const { f } = o;
    const top = o.state32(State.fpuTop);
    const bit = (n: I32) => i32(1).shl(n.and(7));
    const freed = f.let(o.state32(State.fpuEmpty).or(bit(top.add(i.imm()))));
    o.setState32(State.fpuEmpty, pop ? freed.or(bit(top)) : freed);
    if (pop) o.setState32(State.fpuTop, top.add(1).and(7));
    o.setState32(State.fpuStatus, o.state32(State.fpuStatus).and(~Status.c1));
  });
free("FFREE", "dd /0 STi", false);
free("FFREEP", "df /0 STi", true);
define("FNOP", "d9 /2.0", (o) => beginControl(o));
// Their meaning went with the 8087 and the 80287.
define("FNENI", ["db /4.0", "db /4.1", "db /4.4"], (o) => needX87(o));

// (control word): exceptions that it unmasks become pending, those that it masks are so no more
defineHelper("x87SetControl", ["i32"], undefined, (h) => {
  const { f } = h;
  const word = f.let(h.param<"i32">(0).and(0x1f7f).or(0x40));
  h.store32(State.fpuControl, word);
  const status = f.let(h.load32(State.fpuStatus).and(~(Status.es | Status.busy)));
  const pending = status.and(word.xor(-1)).and(0x3f);
  h.store32(State.fpuStatus, f.select(pending, status.or(Status.es | Status.busy), status));
});
define("FLDCW", "d9 /5 Mw", (o, i) => {
  beginControl(o);
  o.callVoid("x87SetControl", i.operands[0].read().wrap());
});
