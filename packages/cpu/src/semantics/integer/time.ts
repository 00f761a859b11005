import { State } from "../../state/layout.ts";
import { refuseTime } from "../../system/msr.ts";
import { Cr4 } from "../../system/registers.ts";
import { define } from "../define.ts";
import type { Ops } from "../ops.ts";
import { unless } from "./privilege.ts";

/** The time-stamp counter into EDX and EAX. Only the host program has a clock; it is called, and control stays here. */
function readTime(o: Ops): void {
  const { f } = o;
  const forbidden = o.state32(State.cr4).and(Cr4.tsd).ne(0);
  unless(o, forbidden.and(o.state32(State.cpl).ne(0)));
  f.callVoid(o.helpers.readTime, o.vb);
  const time = f.let(o.state64(State.result));
  o.writeGpr(0, 4, time);
  o.writeGpr(2, 4, time.shrU(32));
}

define("RDTSC", "0f 31", (o) => readTime(o), { system: refuseTime });
define(
  "RDTSCP",
  "0f 01 /7.1",
  (o) => {
    readTime(o);
    o.writeGpr(1, 4, o.state32(State.tscAux).extU());
  },
  { system: refuseTime },
);
