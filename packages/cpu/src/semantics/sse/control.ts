import { i32 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import type { Ops } from "../ops.ts";

const CR0_EM = 4;
const CR0_TS = 8;
const CR4_OSFXSR = 0x200;

/** #UD unless the operating system enabled SSE, #NM if it wants to know of the first use. */
export function needSse(o: Ops): void {
  const { f } = o;
  const cr0 = o.state32(State.cr0);
  f.if(cr0.and(CR0_EM).or(o.state32(State.cr4).and(CR4_OSFXSR).eqz()), () => o.raise(6));
  f.if(cr0.and(CR0_TS), () => o.raise(7));
}

define("LDMXCSR", "np 0f ae /2 Md", (o, i) => {
  needSse(o);
  const value = o.f.let(i.operands[0].read().wrap());
  o.f.if(value.and(i32(~0xffff)), () => o.raise(13));
  o.setState32(State.mxcsr, value);
});
define("STMXCSR", "np 0f ae /3 Md", (o, i) => {
  needSse(o);
  i.operands[0].write(o.state32(State.mxcsr).extU());
});
