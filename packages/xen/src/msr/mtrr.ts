/** Memory type range registers: remembered, without effect, since all guest memory is ordinary host memory. */
import { VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import type { MsrValue } from "./msrs.ts";

const MTRR_CAP = 0xfe;
const MTRR_PHYSBASE0 = 0x200;
const MTRR_PHYSMASK7 = 0x20f;
const MTRR_DEF_TYPE = 0x2ff;
/** Eight variable ranges, fixed ranges, write combining. */
const CAP_VALUE = 0x508;
/** Enabled, write-back. */
const DEF_TYPE_INITIAL = 0x806;
const FIXED: readonly number[] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];

export function resetMtrr(record: VcpuRecord): void {
  record.set(VcpuField.mtrrDefTypeLo, DEF_TYPE_INITIAL);
  for (let n = 0; n < 22; n++) record.set(VcpuField.mtrrFixed + n, 0x06060606);
  for (let n = 0; n < 32; n++) record.set(VcpuField.mtrrVariable + n, 0);
}

/** The field that holds a register's low half; the high half follows. Undefined if it is no range register. */
function fieldOf(index: number): number | undefined {
  if (index >= MTRR_PHYSBASE0 && index <= MTRR_PHYSMASK7) return VcpuField.mtrrVariable + (index - MTRR_PHYSBASE0) * 2;
  const fixed = FIXED.indexOf(index);
  return fixed < 0 ? undefined : VcpuField.mtrrFixed + fixed * 2;
}

export function readMtrr(record: VcpuRecord, index: number): MsrValue | undefined {
  if (index === MTRR_CAP) return { lo: CAP_VALUE, hi: 0 };
  if (index === MTRR_DEF_TYPE) return { lo: record.get(VcpuField.mtrrDefTypeLo) >>> 0, hi: 0 };
  const field = fieldOf(index);
  return field === undefined ? undefined : { lo: record.get(field) >>> 0, hi: record.get(field + 1) >>> 0 };
}

/** False if there is no such register, or it cannot be written. */
export function writeMtrr(record: VcpuRecord, index: number, lo: number, hi: number): boolean {
  if (index === MTRR_DEF_TYPE) {
    if (hi !== 0 || (lo & ~0xcff) !== 0) return false;
    record.set(VcpuField.mtrrDefTypeLo, lo);
    return true;
  }
  const field = fieldOf(index);
  if (field === undefined) return false;
  record.set(field, lo);
  record.set(field + 1, hi);
  return true;
}
