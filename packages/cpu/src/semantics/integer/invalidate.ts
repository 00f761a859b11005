import { largePageBit } from "../../mmu/emit.ts";
import { emitFlushPage } from "../../mmu/flush.ts";
import { State } from "../../state/layout.ts";
import { invalidateOperand } from "../../system/invalidate.ts";
import { define } from "../define.ts";
import { defineHelper } from "../helpers.ts";
import { unless } from "./privilege.ts";

/** (va): forgets a page of 4 KiB. */
defineHelper("invalidatePage", ["i64"], undefined, (h) => emitFlushPage(h.f, h.vb, h.param<"i64">(0)));

/**
 * A kernel that writes through a fixed mapping invalidates it each time, tens of thousands of times in a boot. Pages that may
 * belong to a larger one, and addresses that are not canonical, are left to the host program.
 */
define(
  "INVLPG",
  "0f 01 /7 M",
  (o, i) => {
    const { f } = o;
    if (!i.mode64) return o.leaveToHost();
    const va = f.let(i.address());
    const isLarge = f.load<"i64">("i64.load", o.vb, State.largePages).shrU(largePageBit(va)).and(1).wrap();
    const isCanonical = va.shl(16).shrS(16).eq(va);
    unless(o, o.state32(State.cpl).or(isLarge).or(isCanonical.eqz()));
    f.callVoid(o.helpers.named("invalidatePage"), o.vb, va);
    // What comes next may lie in that page.
    o.jumpTo(o.nextIp());
  },
  { ends: true, system: invalidateOperand },
);
