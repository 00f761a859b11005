import { type CaseBits, FS_BASE, GS_BASE, READONLY_BASE, SCRATCH_BASE, SCRATCH_BYTES } from "./case.ts";
import type { Prng } from "./prng.ts";

const SCRATCH_END = SCRATCH_BASE + SCRATCH_BYTES;
const PAGE = 4096;
/** Operands with implementation-defined contents go up here, where others seldom read. */
const RESERVED_BASE = SCRATCH_END - 2 * PAGE;

/** Registers whose values the generator knows at this point of the sequence: usable in addresses. */
export interface KnownRegister {
  readonly num: number;
  /** Exact, −2^53 < value < 2^53. */
  readonly value: number;
}

/** ModRM (without the reg field), SIB and displacement of a memory operand, and the prefixes that it needs. */
export interface MemoryOperand {
  /** mod and rm bits. */
  readonly modrm: number;
  readonly sib: number | undefined;
  readonly displacement: number;
  readonly displacementBytes: 0 | 1 | 2 | 4;
  /** RIP-relative: the displacement is `effective − end of instruction`. */
  readonly ripRelative: boolean;
  readonly segmentPrefix: number | undefined;
  /** The address size is not that of the mode. */
  readonly addressPrefix: boolean;
  readonly rexX: boolean;
  readonly rexB: boolean;
  /** Linear address that it refers to. */
  readonly target: number;
  /** The same without the segment base. */
  readonly effective: number;
}

export interface TargetOptions {
  readonly bytes: number;
  readonly alignment: number;
  /** True where a fault is welcome: at the last instruction of a sequence. */
  readonly mayFault: boolean;
  /** Stay within an aligned block of the operand's size: a split lock can cost milliseconds. */
  readonly aligned: boolean;
  readonly reserved: boolean;
}

/** Draws the linear address of an operand: mostly plain, sometimes across pages, at the end of memory or beyond. */
export function drawTarget(r: Prng, o: TargetOptions): number {
  const align = o.aligned
    ? Math.max(o.alignment, powerOfTwo(o.bytes))
    : r.chance(o.alignment > 1 ? 88 : 50)
      ? Math.max(o.alignment, powerOfTwo(Math.min(o.bytes, 64)))
      : 1;
  const down = (address: number): number => address - (address % align);
  if (o.reserved) return down(RESERVED_BASE + 64 + r.below(PAGE));
  const kind = r.below(100);
  if (kind < 12 && !o.aligned && o.alignment === 1 && o.bytes > 1) {
    return SCRATCH_BASE + PAGE * r.between(1, 13) - r.between(1, Math.min(o.bytes - 1, PAGE));
  }
  if (kind < 16) return down(SCRATCH_END - o.bytes);
  if (kind < (o.mayFault ? 32 : 19)) {
    switch (r.below(5)) {
      case 0:
        return o.bytes > 1 && !o.aligned ? SCRATCH_END - r.between(1, o.bytes - 1) : SCRATCH_END;
      case 1:
        return down(SCRATCH_END + r.below(PAGE - 512));
      case 2:
        return down(READONLY_BASE + r.below(PAGE - 512));
      case 3:
        return o.aligned ? SCRATCH_BASE - align : SCRATCH_BASE - r.between(1, o.bytes);
      default:
        return o.aligned ? READONLY_BASE : READONLY_BASE + PAGE - r.between(1, o.bytes);
    }
  }
  return down(SCRATCH_BASE + 64 + r.below(RESERVED_BASE - SCRATCH_BASE - 1024));
}

/** Chooses an addressing form that reaches `target` by way of the known registers. */
export function addressTarget(
  r: Prng,
  wanted: number,
  known: readonly KnownRegister[],
  keepTarget: boolean,
  bits: CaseBits,
): MemoryOperand {
  const segment =
    bits === 64 && r.chance(8) ? r.pick([0x64, 0x65]) : r.chance(4) ? r.pick([0x26, 0x2e, 0x36, 0x3e]) : undefined;
  const segmentBase = segment === 0x64 ? FS_BASE : segment === 0x65 ? GS_BASE : 0;
  const wish32 = bits === 64 && r.chance(6);
  // A 32-bit address wraps before the segment base is added, so a negative one would go elsewhere.
  const rest = (target: number) => {
    const effective = target - segmentBase;
    return { segmentPrefix: segment, target, effective, addressPrefix: wish32 && effective >= 0 };
  };
  const form = r.below(100);
  if (form < 10 || known.length === 0) {
    return {
      ...rest(wanted),
      modrm: 5,
      sib: undefined,
      displacement: wanted,
      displacementBytes: 4,
      ripRelative: bits === 64,
      rexX: false,
      rexB: false,
    };
  }
  const pointers = known.filter((k) => Math.abs(k.value) > 0x10_0000);
  const indexes = known.filter((k) => k.num !== 4 && Math.abs(k.value) <= 0x10_0000);
  const base = form < 18 || pointers.length === 0 ? undefined : r.pick(pointers);
  const index = (form < 26 || form >= 75) && indexes.length > 0 ? r.pick(indexes) : undefined;
  const scale = r.below(4);
  const fixed = segmentBase + (base?.value ?? 0) + (index ? index.value * (1 << scale) : 0);
  let target = wanted;
  if (base && !keepTarget && r.chance(25)) {
    const near = fixed + (r.chance(40) ? 0 : r.between(-128, 127));
    if (near >= SCRATCH_BASE && near < RESERVED_BASE - 1024) target = near;
  }
  const displacement = target - fixed;
  const fits8 = displacement >= -128 && displacement <= 127;
  const zero = displacement === 0 && base !== undefined && (base.num & 7) !== 5 && r.chance(80);
  const displacementBytes = base === undefined ? 4 : zero ? 0 : fits8 && r.chance(90) ? 1 : 4;
  const mod = base === undefined ? 0 : displacementBytes === 0 ? 0 : displacementBytes === 1 ? 0x40 : 0x80;
  const needsSib = index !== undefined || base === undefined || (base.num & 7) === 4 || r.chance(5);
  const sib = needsSib
    ? (scale << 6) | (((index?.num ?? 4) & 7) << 3) | (base === undefined ? 5 : base.num & 7)
    : undefined;
  return {
    ...rest(target),
    modrm: mod | (needsSib ? 4 : base!.num & 7),
    sib,
    displacement,
    displacementBytes,
    ripRelative: false,
    rexX: (index?.num ?? 0) > 7,
    rexB: (base?.num ?? 0) > 7,
  };
}

/** A 16-bit address, for 32-bit code: it reaches the first 64 KiB only, where nothing is. */
export function address16(r: Prng): MemoryOperand {
  const mod = r.below(3);
  const rm = r.below(8);
  const displacementBytes = mod === 2 || (mod === 0 && rm === 6) ? 2 : mod === 1 ? 1 : 0;
  return {
    modrm: (mod << 6) | rm,
    sib: undefined,
    displacement: r.below(0x1_0000),
    displacementBytes,
    ripRelative: false,
    segmentPrefix: undefined,
    addressPrefix: true,
    rexX: false,
    rexB: false,
    target: 0,
    effective: 0,
  };
}

const powerOfTwo = (bytes: number): number => 2 ** Math.ceil(Math.log2(bytes));
