import type { I32 } from "@xenoserver/wasm";
import { State } from "../state/layout.ts";
import { Cr0, Cr4 } from "../system/registers.ts";
import type { Ops } from "./ops.ts";

/** A part of the processor that an operating system switches on and off, which only system instructions do. */
export interface Unit {
  /** Not 0 if its instructions are unknown: #UD. */
  readonly isUnknown?: (o: Ops) => I32;
  /** Not 0 if the operating system wants to know of its next use: #NM. */
  readonly isOff: (o: Ops) => I32;
  /** Not 0 if either. */
  readonly isUnusable: (o: Ops) => I32;
}

const inCr0 =
  (bits: number) =>
  (o: Ops): I32 =>
    o.state32(State.cr0).and(bits);

export const SSE: Unit = {
  isUnknown: (o) => inCr0(Cr0.em)(o).or(o.state32(State.cr4).and(Cr4.osfxsr).eqz()),
  isOff: inCr0(Cr0.ts),
  isUnusable: (o) => o.state32(State.sseOff),
};
export const MMX: Unit = { isUnknown: inCr0(Cr0.em), isOff: inCr0(Cr0.ts), isUnusable: inCr0(Cr0.em | Cr0.ts) };
export const X87: Unit = { isOff: inCr0(Cr0.em | Cr0.ts), isUnusable: inCr0(Cr0.em | Cr0.ts) };
