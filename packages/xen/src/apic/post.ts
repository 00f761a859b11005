/** Sending a vector to a vcpu's local APIC, from any thread. */
import { VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";

/** Has the vcpu take a non-maskable interrupt; several that wait are one. */
export function postNmi(record: VcpuRecord): void {
  record.set(VcpuField.nmi, 1);
  record.ring();
}

/** Sets the vector in the interrupt request register and wakes the vcpu. Vectors below 16 are illegal and dropped. */
export function postVector(record: VcpuRecord, vector: number): void {
  if (vector < 16 || vector > 255) return;
  // The word first, then the summary: whoever sees the summary bit finds the vector.
  record.or(VcpuField.irr + (vector >>> 5), 1 << (vector & 31));
  record.or(VcpuField.irrSummary, 1 << (vector >>> 5));
  record.ring();
}
