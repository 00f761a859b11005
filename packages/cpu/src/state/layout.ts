/**
 * Where things lie in a domain's WebAssembly memory.
 *
 * ```
 * 0            64 KiB kept empty, so that host address 0 can mean "none"
 * 64 KiB       one area per vcpu: registers, TLBs, index of decoded code, instruction records
 * …            p2m directory and leaves, frame flags, code maps          (shared by the vcpus)
 * framesOffset the domain's frames: guest RAM and the pages that the hypervisor adds
 * ```
 * Offsets of vcpu state are relative to the vcpu's area, whose address generated code calls `vb`.
 */

/** Words of the first 64 KiB that all vcpus of a domain spin on: CMPXCHG16B, and locked operands that are not aligned. */
export const PAIR_LOCK_WORD = 64;
export const SPLIT_LOCK_WORD = 128;

/** Register slots: 8 bytes each, all reachable by an unsigned byte offset so that records can name them. */
export const Slot = {
  gpr: 0, // 16 general registers
  zero: 128, // always 0: "no base", "no index"
  pageVa: 136, // linear address of the page that the running trace lies in
  scratch: 144, // linear address made by an address prefix record
  segBase: 152, // ES CS SS DS FS GS
  rip: 200, // linear address of the next instruction while the vcpu is not running
} as const;

export const State = {
  /** Flags: ZF, SF and PF come from `flagRes`; AF is bit 4 of `flagCarries`; CF is bit 0 of `flagCf`; OF is bit 63 of `flagCarries` xor CF. */
  flagRes: 208,
  flagCarries: 216,
  /** Bit 0 is CF; bit 1 inverts PF, bit 2 inverts SF (for flag sets that no result has, as POPF can make). */
  flagCf: 224,
  /** The other RFLAGS bits (TF IF DF IOPL NT RF VM AC VIF VIP ID), at their places. */
  flagsSystem: 228,
  /** Instructions retired since the last entry; a trace leaves when it exceeds `instructionLimit`. */
  instructions: 232,
  instructionLimit: 236,
  /** TLB in use for data: user, supervisor, or supervisor allowed into user pages. An absolute address. */
  tlb: 240,
  itlb: 244,
  cpl: 248,
  /** Decoding mode, see `CodeMode`. */
  codeMode: 252,
  faultVector: 256,
  faultErrorCode: 260,
  /** Linear address of a page fault. */
  faultAddress: 264,
  /** What a slow path wants done: see `Pending`. */
  pending: 272,
  mmioGpaLo: 276,
  mmioGpaHi: 280,
  mmioSize: 284,
  mmioValue: 288,
  /** 1 while `mmioValue` holds the answer to a load that is about to be repeated. */
  mmioReady: 296,
  /** Linear address that an access through the bounce buffer goes to, and its size. */
  bounceVa: 304,
  bounceSize: 312,
  /** Not 0 while accesses must be looked at one by one; see `EMPTY_TLB_SET`. */
  slowAccess: 728,
  cr0: 320,
  cr2: 328,
  cr3: 336,
  cr4: 344,
  efer: 352,
  xcr0: 360,
  /** Selectors as 6 × u32 (ES CS SS DS FS GS), then TR and LDTR. */
  selector: 368,
  segLimit: 400,
  segAttr: 432,
  /** Bases of TR and LDTR (the six others are slots). */
  trBase: 464,
  ldtrBase: 472,
  gdtBase: 480,
  gdtLimit: 488,
  idtLimit: 492,
  idtBase: 496,
  star: 504,
  lstar: 512,
  cstar: 520,
  sfmask: 528,
  kernelGsBase: 536,
  sysenterCs: 544,
  sysenterEsp: 552,
  sysenterEip: 560,
  tscAux: 568,
  pat: 576,
  tscOffset: 584,
  dr: 592, // 8 × 8 bytes
  cr8: 656,
  /** Not 0 while SSE instructions raise #UD or #NM. */
  sseOff: 664,
  /** Instructions retired in translated regions since the last entry. */
  jitInstructions: 736,
  /** Which region caches have entries. */
  regionCacheUsed: 744,
  /** Address of the region cache in use, as `tlb`. */
  regionCache: 748,
  /**
   * 1 while both privilege levels run flat 64-bit code that nothing watches, so that a transfer between them needs no more than
   * new selectors.
   */
  usualModes: 752,
  /** 1 if an interrupt was seen to wait for the interrupt flag: whoever sets that has it looked at soon. */
  interruptWaits: 756,
  /** 1 from the delivery of a non-maskable interrupt to the next IRET: no other is delivered meanwhile. */
  nmiBlocked: 760,
  /** Address of this vcpu's `frameTables`. */
  frameTables: 668,
  /** Scratch for two-result helpers. */
  result: 672,
  result2: 680,
  mxcsr: 688,
  fpuControl: 692,
  fpuStatus: 696,
  /** Bit i set: physical x87 register i is empty. */
  fpuEmpty: 700,
  /** Physical index of ST(0). */
  fpuTop: 704,
  fpuOpcode: 708,
  fpuIp: 712,
  fpuDp: 720,
  /** Physical x87 registers: 8 × 16 bytes, significand (u64) then sign and exponent (u16). MMX registers alias the significands. */
  fpr: 0x300,
  xmm: 0x400, // 16 × 16 bytes
  bounce: 0x600, // 64 bytes
  bounce2: 0x640,
  // Scratch of floating point: parts of an unrounded number, exceptions so far, and whether one of them traps
  fpSign: 0x680,
  fpExp: 0x684,
  fpRest: 0x688,
  fpFlags: 0x690,
  fpTrap: 0x694,
  /** Sign and exponent of an 80-bit result whose significand was returned. */
  fpSignExp: 0x698,
  fpLanes: 0x6a0, // two vectors, taken apart lane by lane
  /** 64 bits: of which GiB of either half of the address space (modulo 32) pages of more than 4 KiB were cached since the last full flush. */
  largePages: 0x6c0,
  /** 64 bits for each TLB set and ITLB set: which groups of it may hold what the next change of page tables drops. */
  tlbUsed: 0x6c8, // user, supervisor, supervisor allowed into user pages
  itlbUsed: 0x6e0, // kernel, user
  /** 64 bits for each region cache: how many of its entries are noted as used. */
  regionsUsed: 0x6f0, // user, kernel
} as const;

/** Instruction decoding depends on these; two traces of the same bytes with different modes are different traces. */
export const CodeMode = {
  /** Bits 0–1: default operand and address size. */
  code16: 0,
  code32: 1,
  code64: 2,
  sizeMask: 3,
  /** The stack is addressed with 32 (or 64) bits rather than 16. */
  stack32: 4,
  /** All of CS, DS, ES and SS are flat: base 0, limit 4 GiB, usable; CS readable, the others writable. */
  flat: 8,
  /** Trap after each instruction, or check breakpoints: traces of one instruction. */
  singleStep: 16,
} as const;

/** Bits of `State.slowAccess`. */
export const SlowAccess = { alignment: 1, breakpoints: 2 } as const;
/** Error code in the state for a #GP or #SS about an address that is not canonical. */
export const NOT_CANONICAL = 0x10000;

/** Bits of `State.pending`. */
export const Pending = { mmioRead: 1 } as const;

// One vcpu's area
/** Execution counts by handler, when a profile is taken. */
export const PROFILE_OFFSET = 0x2000;
export const TLB_ENTRIES = 4096;
export const TLB_ENTRY_BYTES = 32;
/** `addend` is a host address less a linear one, as wide as the memory's addresses. */
export const Tlb = { read: 0, write: 8, addend: 16, flags: 24 } as const;
/**
 * Tags are one less than the linear address of their page (`emitTlbLookup` says why). Entries that are filled with ones have the tag of page 0, which no address
 * matches that has another entry than the first; the first of a set has the tag of page 1.
 */
export const EmptyTlbTag = { first: 4095, others: -1 } as const;
export const TLB_FLAG_GLOBAL = 1;
export const TLB_BYTES = TLB_ENTRIES * TLB_ENTRY_BYTES;
export const ITLB_ENTRIES = 512;
export const ITLB_ENTRY_BYTES = 16;
/** Entry: tag (i64), address of the page's heads (i32), frame (i32, bit 31: global). */
export const Itlb = { tag: 0, heads: 8, frame: 12 } as const;
export const ITLB_BYTES = ITLB_ENTRIES * ITLB_ENTRY_BYTES;

export const TLB_OFFSET = 0x10000;
/**
 * User, supervisor, supervisor with access to user pages; and one that is never filled, in use while every access must be looked
 * at (alignment checks, data breakpoints).
 */
export const TLB_SETS = 4;
export const EMPTY_TLB_SET = 3;
export const ITLB_OFFSET = TLB_OFFSET + TLB_SETS * TLB_BYTES;
/**
 * Traces that were looked up lately, by linear address. Entry: the address (i64), the record (i32), and the heads of the page that it
 * belongs to (i32): it holds only while the ITLB leads from the address to those.
 */
export const JUMP_CACHE_OFFSET = ITLB_OFFSET + 2 * ITLB_BYTES;
export const JUMP_CACHE_BITS = 14;
export const JumpCache = { address: 0, record: 8, heads: 12, bytes: 16 } as const;
export const JUMP_CACHE_BYTES = JumpCache.bytes << JUMP_CACHE_BITS;
/**
 * Translated regions by the linear address of their entry, for jumps from region to region: a cache for programs and one for the
 * kernel. Entry: the address (i64), the region's place in the table (i32), the arrival that its function is told (i32). What an address leads to was checked when its entry was
 * made, so a cache is emptied whenever a mapping that it depends on may have changed.
 */
export const REGION_CACHE_OFFSET = JUMP_CACHE_OFFSET + JUMP_CACHE_BYTES;
/** With 4,096 entries a guest that sends requests found some 120 places more of each taken by others. */
export const REGION_CACHE_BITS = 14;
export const REGION_CACHE_HALF_BYTES = 16 << REGION_CACHE_BITS;
export const RegionCache = { address: 0, place: 8, arrival: 12 } as const;
/** Bits of `State.regionCacheUsed`; `kernelLocal`: the kernel's has entries whose pages are not global. */
export const RegionCacheUse = { user: 1, kernel: 2, kernelLocal: 4 } as const;
/** For each region cache a bit for each page (modulo 4096) that a region in it has code from. */
export const REGION_PAGES_OFFSET = REGION_CACHE_OFFSET + 2 * REGION_CACHE_HALF_BYTES;
export const REGION_PAGES_BYTES = 512;
/** For each region cache the numbers of entries that were made since it was last emptied; `MAX_REGION_NOTES` of them stand for any number. */
export const REGION_NOTES_OFFSET = REGION_PAGES_OFFSET + 2 * REGION_PAGES_BYTES;
export const MAX_REGION_NOTES = 2048;
export const REGION_NOTES_BYTES = MAX_REGION_NOTES * 4;
export const CODE_PAGES_OFFSET = Math.ceil((REGION_NOTES_OFFSET + 2 * REGION_NOTES_BYTES) / 0x10000) * 0x10000;
/** A page with code has a word for each granule: the number of the first node for it, 0 if there is none. See interp/code-index.ts. */
export const PAGE_HEADS_BYTES = 512;
export const CODE_PAGES = 16384;
export const CODE_NODES_OFFSET = CODE_PAGES_OFFSET + CODE_PAGES * PAGE_HEADS_BYTES;
/** A trace: its record; and where it starts in its page (12 bits), with the number of the granule's next node above that. */
export const CodeNode = { record: 0, link: 4, bytes: 8 } as const;
export const CODE_NODES = 1 << 19;
export const RECORDS_OFFSET = CODE_NODES_OFFSET + CODE_NODES * CodeNode.bytes;
export const RECORD_BYTES = 16;
export const RECORDS = 1 << 21;
export const VCPU_AREA_BYTES = Math.ceil((RECORDS_OFFSET + RECORDS * RECORD_BYTES) / 0x10000) * 0x10000;
export const VCPU_AREAS_OFFSET = 0x10000;

// Shared tables
/** Guest-physical addresses have this many bits. */
export const PHYSICAL_BITS = 39;
export const P2M_LEAF_ENTRIES = 1024;
export const P2M_DIRECTORY_ENTRIES = 2 ** (PHYSICAL_BITS - 12 - 10);
/** One bit of a frame's code map stands for this many bytes. */
export const CODE_GRANULE_BYTES = 32;

/** Words at `MemoryLayout.dirtyControl`: whether stores are logged, the round, and the round that each vcpu knows of. */
export const DirtyControl = { enabled: 0, round: 1, seen: 2 } as const;

export interface MemoryLayout {
  /** Of host addresses: `i64` where the memory is larger than 4 GiB. */
  readonly addressType: "i32" | "i64";
  readonly vcpuCount: number;
  readonly frameCount: number;
  readonly p2mDirectory: number;
  readonly p2mLeaves: number;
  readonly p2mLeafCount: number;
  /** A byte for each frame: bit n is set if vcpu n has code from it. */
  readonly frameFlags: number;
  /** 16 bytes per frame: which granules of it have translated code. */
  readonly codeMaps: number;
  /** For each vcpu a word for each frame: the heads of its 64-bit code, or 0. */
  readonly frameTables: number;
  /** A byte for each frame: 1 if it was written since the bytes were last collected. */
  readonly dirtyMap: number;
  /** A word for each frame: links of the lists of free frames. */
  readonly freeLinks: number;
  /** Words of the dirty log, see `DirtyControl`. */
  readonly dirtyControl: number;
  /** One byte for each frame: not 0 while its contents have to be fetched, see `AbsentFrames`. */
  readonly absentMap: number;
  readonly framesOffset: number;
  readonly totalBytes: number;
}

/**
 * The layout for a domain; everything is aligned to 64 KiB.
 * @param forceWide has the frames lie beyond 4 GiB, so that 32 bits are not enough
 */
export function layOutMemory(vcpuCount: number, frameCount: number, forceWide = false): MemoryLayout {
  const align = (n: number) => Math.ceil(n / 0x10000) * 0x10000;
  let at = VCPU_AREAS_OFFSET + vcpuCount * VCPU_AREA_BYTES;
  const take = (bytes: number) => {
    const here = at;
    at = align(at + bytes);
    return here;
  };
  const p2mDirectory = take(P2M_DIRECTORY_ENTRIES * 4);
  const p2mLeafCount = Math.ceil(frameCount / P2M_LEAF_ENTRIES) + 64;
  const p2mLeaves = take(p2mLeafCount * P2M_LEAF_ENTRIES * 4);
  const frameFlags = take(frameCount);
  const codeMaps = take(frameCount * 16);
  const frameTables = take(vcpuCount * frameCount * 4);
  const dirtyMap = take(frameCount);
  const freeLinks = take(frameCount * 4);
  const dirtyControl = take(64);
  const absentMap = take(frameCount);
  // Everything else has to lie where 32 bits reach.
  const framesOffset = forceWide ? Math.max(at, 2 ** 32) : at;
  const totalBytes = align(framesOffset + frameCount * 4096);
  return {
    addressType: totalBytes > 2 ** 32 ? "i64" : "i32",
    vcpuCount,
    frameCount,
    p2mDirectory,
    p2mLeaves,
    p2mLeafCount,
    frameFlags,
    codeMaps,
    frameTables,
    dirtyMap,
    freeLinks,
    dirtyControl,
    absentMap,
    framesOffset,
    totalBytes,
  };
}

export const vcpuArea = (id: number): number => VCPU_AREAS_OFFSET + id * VCPU_AREA_BYTES;
