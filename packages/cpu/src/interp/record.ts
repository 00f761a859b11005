/**
 * The interpreter's pre-decoded instruction, 16 bytes:
 *
 * ```
 *  0 u16  handler
 *  2 u8   first register operand  (byte offset of its slot, or 16 × number for XMM and MMX)
 *    i32  for direct branches the heads of the target's page once its record is known
 *  3 u8   second register operand
 *  4 u8   base slot        5 u8  index slot
 *  6 u16  bits 0–12 offset of the instruction in its page, bits 14–15 index scale
 *  8 i32  displacement; for direct branches the target relative to the page; low half of a 64-bit immediate
 * 12 i32  immediate; for direct branches the target's record once it is known; high half of a 64-bit immediate
 * ```
 * Records of a trace lie one behind the other. A trace ends in a record that never goes on to the next.
 */
export const Field = { handler: 0, heads: 2, dst: 2, src: 3, base: 4, index: 5, place: 6, disp: 8, imm: 12 } as const;
export const OFFSET_MASK = 0x1fff;
export const SCALE_SHIFT = 14;

/** What a handler that is a function of its own returns. */
export const HandlerStatus = { next: 0, fault: 1, redirect: 2, system: 3 } as const;

/** Why the main loop returns. */
export const LoopExit = {
  /** No trace is known for `Slot.rip`. */
  miss: 0,
  /** An exception is in the state; `Slot.rip` is the instruction that raised it. */
  fault: 1,
  /** The instruction limit was reached. */
  tick: 2,
  /** A system instruction at `Slot.rip`; its record is in `State.result`. */
  system: 3,
} as const;

/** Instruction limit that an instruction sets after it let interrupts in: leave at the next branch, but not to the hypervisor. */
export const INTERRUPTS_OPENED = 1;

/**
 * A translated region: (vb, arrival) → `RegionStatus`. The arrival is the number of the entry, and shifted by `ARRIVAL_BITS` how many pages the entry lies
 * behind the one that places count from.
 */
export const REGION_SIGNATURE = { params: ["i32", "i32"], results: ["i32"] } as const;
export const ARRIVAL_BITS = 8;

/** What a region's function returns to the dispatch loop. */
export const RegionStatus = {
  /** Go on at `Slot.rip`. */
  redirect: 0,
  /** An exception is in the state; `Slot.rip` is the instruction. */
  fault: 1,
  /** Let the interpreter do the instruction at `Slot.rip`. */
  interpret: 2,
} as const;

/** Handlers that no instruction defines; their numbers are the first of the table. */
export const Builtin = {
  /** Goes on at its own address by look-up: ends a trace, and replaces records whose code was overwritten. */
  relook: 0,
  /** Goes on at the record in `imm`. */
  link: 1,
  /** The host program executes the instruction. */
  system: 2,
  /** scratch = base + index × scale + disp, cut to the address size, plus a segment base. */
  address: 3,
  /** scratch = 64-bit displacement plus a segment base. */
  absolute: 4,
  /** Raises the exception in `imm`: bytes that are no instruction, or too many. */
  undefined: 5,
  /** Goes on only if the next page is still the frame in `imm`: before an instruction that lies across both. */
  crossing: 6,
  /** Calls the translated region whose place in the table is in `imm`, at the entry whose number is in `dst`; `disp` is the record it replaced. */
  region: 7,
} as const;
export const BUILTIN_COUNT = 8;

/**
 * Bits of `imm` in an address record: the operand's segment, whether it need not be checked for reading, whether addresses wrap
 * at 4 GiB, and how many bytes of the operand lie behind its first.
 */
export const AddressRecord = { segmentMask: 7, noCheck: 8, wrap32: 16, moreShift: 16 } as const;

/**
 * An interpreted instruction counts as so many translated ones, for it takes longer. Counted alike, it would hardly be met at a tick,
 * and so never be found hot. That it takes some 5 to 16 ns against 0.7 to 1 would speak for 8, but then code that is not worth its
 * translation is found hot as well: a shell's first second and forks take longer.
 */
export const INTERPRETED_WORK = 2;
