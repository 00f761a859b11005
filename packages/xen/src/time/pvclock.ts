/**
 * pvclock: what a guest needs to turn its TSC into system time, in `vcpu_info` and in a second copy if it asked for
 * one. The TSC *is* system time here (see clock.ts), so the records say "add nothing, multiply by one" and are written
 * only when they appear somewhere new.
 */
import type { Gva, Vcpu } from "@xenoserver/cpu";
import { PVCLOCK_GUEST_STOPPED, PVCLOCK_TSC_STABLE_BIT, VcpuInfo, VcpuTimeInfo } from "../abi/xen.ts";
import type { Domain } from "../domain/domain.ts";
import { VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";

/** scale = mul / 2^32 × 2^shift = 1. */
const TSC_TO_SYSTEM_MUL = 0x80000000;
const TSC_SHIFT = 1;

/** Writes the clock record into a vcpu's `vcpu_info`, under the version protocol. */
export function publishVcpuTime(domain: Domain, record: VcpuRecord): void {
  const words = domain.guest.words;
  const base = record.wordAt(VcpuField.vcpuInfoWord) + VcpuInfo.time / 4;
  const version = Atomics.load(words, base) & ~1;
  Atomics.store(words, base, version + 1);
  for (let n = 1; n < 6; n++) words[base + n] = 0;
  words[base + VcpuTimeInfo.tsc_to_system_mul / 4] = TSC_TO_SYSTEM_MUL | 0;
  words[base + VcpuTimeInfo.tsc_shift / 4] = TSC_SHIFT | (PVCLOCK_TSC_STABLE_BIT << 8);
  Atomics.store(words, base, version + 2);
  domain.memory.markWritten(domain.vcpuInfoFrame(record));
}

/** Tells a guest that its vcpu stood still, so that its watchdogs do not take the time since for a hang. */
export function markStopped(domain: Domain, record: VcpuRecord): void {
  const at = record.wordAt(VcpuField.vcpuInfoWord) + (VcpuInfo.time + VcpuTimeInfo.tsc_shift) / 4;
  Atomics.or(domain.guest.words, at, PVCLOCK_GUEST_STOPPED << 8);
  domain.memory.markWritten(domain.vcpuInfoFrame(record));
}

/** The same record at a linear address of the running vcpu; false if that address cannot be written. */
export function publishSecondaryTime(vcpu: Vcpu, at: Gva): boolean {
  const record = new Uint8Array(VcpuTimeInfo.bytes);
  const view = new DataView(record.buffer);
  view.setUint32(VcpuTimeInfo.version, 2, true);
  view.setUint32(VcpuTimeInfo.tsc_to_system_mul, TSC_TO_SYSTEM_MUL, true);
  view.setInt8(VcpuTimeInfo.tsc_shift, TSC_SHIFT);
  view.setUint8(VcpuTimeInfo.flags, PVCLOCK_TSC_STABLE_BIT);
  return vcpu.writeLinear(at, record);
}
