import type { Decoded } from "../decode/decoded.ts";
import { Flag } from "../semantics/flags.ts";
import { State } from "../state/layout.ts";
import type { Machine } from "./machine.ts";
import { Stack } from "./stack.ts";

/** System parts of instructions whose usual case is generated code. */
export const execute = {
  /** POPF that changes TF, AC or another flag on which the vcpu's mode depends. */
  popFlags(m: Machine, d: Decoded): void {
    const stack = Stack.current(m, d.operandSize);
    const value = stack.pop();
    const old = m.rflags;
    let mask = Flag.tf | Flag.df | Flag.nt | 0x8d5;
    if (d.operandSize !== 2) mask |= Flag.ac | Flag.id;
    if (m.cpl === 0) mask |= Flag.iopl;
    if (m.cpl <= ((m.get32(State.flagsSystem) >> 12) & 3)) mask |= Flag.if;
    m.rflags = (old & ~mask & ~Flag.rf) | (value & mask);
    stack.commit();
    m.updateMode();
  },
};
