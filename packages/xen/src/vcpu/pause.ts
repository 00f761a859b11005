/** Stopping all vcpus at an instruction boundary, for as long as the toolstack wants to look at or move the domain. */
import { Runstate } from "../abi/vcpu.ts";
import type { Domain } from "../domain/domain.ts";
import { Field, VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import type { VcpuWait } from "./sleep.ts";

/** Says whether a vcpu is out of the guest, and stays out. */
export function setParked(domain: Domain, record: VcpuRecord, isParked: boolean): void {
  const at = record.base + VcpuField.parked;
  Atomics.store(domain.i32, at, isParked ? 1 : 0);
  Atomics.notify(domain.i32, at);
}

/**
 * Parks a vcpu for as long as anybody wants a pause.
 * @returns what it has to wait for before the next look; undefined if it may go on, and is not parked any more
 */
export function lookPaused(domain: Domain, record: VcpuRecord): VcpuWait | undefined {
  for (;;) {
    setParked(domain, record, true);
    const seen = record.doorbell;
    if (wantsPause(domain)) return { seen, timeoutMs: Infinity };
    setParked(domain, record, false);
    // A new pause may have begun and have found this vcpu still parked: then it must not have moved.
    if (!wantsPause(domain)) return undefined;
  }
}

function wantsPause(domain: Domain): boolean {
  return domain.get(Field.pauseCount) !== 0 && domain.get(Field.shutdown) === 0;
}

/**
 * Whether a vcpu is out of the guest: parked, blocked, or not started. It looks at all that changed before it goes in again. Only the vcpu's
 * own thread changes its runstate; others may take it down, or wake it, while it has not come to notice.
 */
export function isResting(domain: Domain, vcpuId: number): boolean {
  return domain.vcpus[vcpuId].get(VcpuField.runstate) !== Runstate.running;
}

/** Asks all vcpus to stop and resolves when they have. Every call needs its own `unpauseDomain`. */
export async function pauseDomain(domain: Domain): Promise<void> {
  Atomics.add(domain.i32, Field.pauseCount, 1);
  for (const record of domain.vcpus) record.ring();
  for (const record of domain.vcpus) {
    const at = record.base + VcpuField.parked;
    // One that gets its thread meanwhile finds the pause before it does anything.
    while (Atomics.load(domain.i32, at) === 0 && record.get(VcpuField.absent) === 0) {
      await Atomics.waitAsync(domain.i32, at, 0).value;
    }
  }
}

export function unpauseDomain(domain: Domain): void {
  if (Atomics.sub(domain.i32, Field.pauseCount, 1) !== 1) return;
  for (const record of domain.vcpus) record.ring();
}
