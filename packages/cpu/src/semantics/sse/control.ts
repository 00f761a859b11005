import { i32 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import type { Ops } from "../ops.ts";
import { SSE } from "../units.ts";

/** #UD unless the operating system enabled SSE, #NM if it wants to know of the first use. */
export const needSse = (o: Ops): void => o.needUnit(SSE);

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
