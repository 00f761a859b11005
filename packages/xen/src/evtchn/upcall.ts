/**
 * Telling a vcpu that events wait. Two ways, chosen by the guest:
 * - HVM_PARAM_CALLBACK_IRQ type 2: the vector is delivered for as long as `evtchn_upcall_pending` is set, outside the
 *   local APIC, so the guest writes no EOI.
 * - HVMOP_set_evtchn_upcall_vector: an edge into the local APIC of that vcpu, ended by an EOI.
 */
import { postVector } from "../apic/post.ts";
import type { Domain } from "../domain/domain.ts";
import { Field, VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";

/** Sets `evtchn_upcall_pending`; wakes the vcpu if it was clear. */
export function markUpcallPending(domain: Domain, record: VcpuRecord): void {
  const before = Atomics.or(domain.guest.words, record.wordAt(VcpuField.vcpuInfoWord), 1);
  domain.memory.markWritten(domain.vcpuInfoFrame(record));
  if ((before & 0xff) === 0) assertUpcall(record);
}

/** Delivers the upcall that `evtchn_upcall_pending` asks for; also when a vector is set while events wait already. */
export function assertUpcall(record: VcpuRecord): void {
  const vector = record.get(VcpuField.upcallVector);
  if (vector !== 0) postVector(record, vector);
  else record.ring();
}

/** True while `evtchn_upcall_pending` is set. */
export function isUpcallPending(domain: Domain, record: VcpuRecord): boolean {
  return (domain.guest.words[record.wordAt(VcpuField.vcpuInfoWord)] & 0xff) !== 0;
}

/** The vector to deliver outside the local APIC now, or 0. */
export function callbackVector(domain: Domain, record: VcpuRecord): number {
  const vector = domain.i32[Field.callbackVector];
  return vector !== 0 && isUpcallPending(domain, record) ? vector : 0;
}
