import type { I32, I64, Label, Var } from "@xenoserver/wasm";

/** Where control goes when it leaves the straight line; made by the translator. */
export interface Exits {
  /** Leaves the region for the address in `target`. */
  readonly leave: Label;
  readonly target: Var<"i64">;
  /** Leaves the region as `status` says, and stores the flags, whatever they follow from. */
  readonly leaveAny: Label;
  /**
   * A `RegionStatus`. `redirect`: as with `leave`. `fault` or `interpret`: in front of the instruction at `place`, with the fault in the state or
   * because the interpreter is to do it.
   */
  readonly status: Var<"i32">;
  readonly place: Var<"i32">;
  /** The same with that status: `interpret`. */
  readonly interpret: Label;
  /** Emits a jump to the current block's target, under a condition if one is given. */
  branch(condition: I32 | undefined): void;
  /** Emits a jump to an address that is known only now. */
  indirect(ip: I64): void;
}
