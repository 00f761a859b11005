import { type I32, i32, i64 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import type { Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { X87 } from "../units.ts";

const CR0_MP = 2;
const CR0_TS = 8;

/** #NM if the operating system switched the x87 unit off. */
export const needX87 = (o: Ops): void => o.needUnit(X87);

/** Begins a control instruction that waits: #NM, or #MF for an exception that has not been delivered yet. */
export function beginControl(o: Ops): void {
  needX87(o);
  o.f.if(o.state32(State.fpuStatus).and(0x80), () => o.raise(16));
}
/** Begins any other instruction: exception handlers are told where it and its operand are. */
export function beginX87(o: Ops, i: Instruction): void {
  beginControl(o);
  o.setState64(State.fpuIp, o.ownIp());
  if (i.operands[0]?.kind === "mem") o.setState64(State.fpuDp, i.address());
}

/** The status word with TOP in its place. */
export function statusWord(o: Ops): I32 {
  return o.f.let(o.state32(State.fpuStatus).or(o.state32(State.fpuTop).shl(11)));
}

/** The state after FNINIT. */
export function initialise(o: Ops): void {
  o.setState32(State.fpuControl, i32(0x37f));
  o.setState32(State.fpuStatus, i32(0));
  o.setState32(State.fpuTop, i32(0));
  o.setState32(State.fpuEmpty, i32(0xff));
  o.setState32(State.fpuOpcode, i32(0));
  o.setState64(State.fpuIp, i64(0));
  o.setState64(State.fpuDp, i64(0));
}
define("FNINIT", "db /4.3", (o) => {
  needX87(o);
  initialise(o);
});
define("FNSTSW", ["df /4.0", "dd /7 Mw"], (o, i) => {
  needX87(o);
  const value = statusWord(o).extU();
  if (i.operands.length) i.operands[0].write(value);
  else o.writeGpr(0, 2, value);
});
define("FNSTCW", "d9 /7 Mw", (o, i) => {
  needX87(o);
  i.operands[0].write(o.state32(State.fpuControl).extU());
});
define("FNCLEX", "db /4.2", (o) => {
  needX87(o);
  o.setState32(State.fpuStatus, o.state32(State.fpuStatus).and(0x7f00));
});
define("FWAIT", "9b", (o) => {
  o.f.if(
    o
      .state32(State.cr0)
      .and(CR0_MP | CR0_TS)
      .eq(CR0_MP | CR0_TS),
    () => o.raise(7),
  );
  o.f.if(o.state32(State.fpuStatus).and(0x80), () => o.raise(16));
});
