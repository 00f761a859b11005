import { type Decoded, Seg } from "../decode/decoded.ts";
import { CodeMode, Slot } from "../state/layout.ts";

/** How a memory operand is put into a record. */
export interface AddressForm {
  /** A prefix record computes the address into the scratch slot first. */
  readonly prefix: "none" | "general" | "absolute";
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly disp: number;
  readonly indexed: boolean;
}

export const segmentSlot = (segment: number): number => Slot.segBase + segment * 8;
const gprSlot = (reg: number): number => (reg < 0 ? Slot.zero : reg * 8);
const fitsI32 = (n: number): boolean => n === (n | 0);

export const SCRATCH_FORM: AddressForm = {
  prefix: "general",
  base: Slot.scratch,
  index: Slot.zero,
  scale: 0,
  disp: 0,
  indexed: false,
};

/** Instructions whose memory operand is an address and no access: no segment, no limit. */
export const ignoresSegment = (d: Decoded): boolean => d.def.name === "LEA";

/**
 * Chooses the record form of an instruction's memory operand.
 * @param nextOffset offset in its page of the byte behind the instruction, for RIP-relative operands
 */
export function addressForm(d: Decoded, codeMode: number, nextOffset: number): AddressForm | undefined {
  const m = d.memory;
  if (!m) return undefined;
  const is64 = (codeMode & CodeMode.sizeMask) === CodeMode.code64;
  if (!is64 || d.addressSize !== 8) return SCRATCH_FORM;
  const segmented = m.segment >= Seg.fs && !ignoresSegment(d);
  if (m.dispHi !== m.disp >> 31) return { ...SCRATCH_FORM, prefix: "absolute" };
  if (m.ripRelative) {
    const disp = m.disp + nextOffset;
    if (!fitsI32(disp) || segmented) return SCRATCH_FORM;
    return { prefix: "none", base: Slot.pageVa, index: Slot.zero, scale: 0, disp, indexed: false };
  }
  const form = { prefix: "none", disp: m.disp } as const;
  if (!segmented) {
    return { ...form, base: gprSlot(m.base), index: gprSlot(m.index), scale: m.scale, indexed: m.index >= 0 };
  }
  const segment = segmentSlot(m.segment);
  if (m.base < 0) return { ...form, base: segment, index: gprSlot(m.index), scale: m.scale, indexed: m.index >= 0 };
  if (m.index < 0) return { ...form, base: gprSlot(m.base), index: segment, scale: 0, indexed: true };
  return SCRATCH_FORM;
}
