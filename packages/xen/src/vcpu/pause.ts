/** Stopping all vcpus at an instruction boundary, for as long as the toolstack wants to look at or move the domain. */
import { Runstate } from "../abi/vcpu.ts";
import type { Domain } from "../domain/domain.ts";
import { Field, VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";

/** The async wait as the language defines it; TypeScript's library types lag behind. */
interface WaitAsync {
  waitAsync(words: Int32Array, at: number, value: number): { async: boolean; value: Promise<string> | string };
}

/**
 * Marks a vcpu's thread as out of the guest.
 * @param untilResumed  whether to sleep until nobody wants a pause any more
 */
export function park(domain: Domain, record: VcpuRecord, untilResumed: boolean): void {
  const at = record.base + VcpuField.parked;
  const setParked = (value: number): void => {
    Atomics.store(domain.i32, at, value);
    Atomics.notify(domain.i32, at);
  };
  setParked(1);
  while (untilResumed) {
    const seen = record.doorbell;
    if (wantsPause(domain)) {
      record.wait(seen, Infinity);
      continue;
    }
    setParked(0);
    // A new pause may have begun and have found this vcpu still parked: then it must not have moved.
    if (!wantsPause(domain)) return;
    setParked(1);
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
  const waiter = Atomics as unknown as WaitAsync;
  for (const record of domain.vcpus) record.ring();
  for (const record of domain.vcpus) {
    const at = record.base + VcpuField.parked;
    // One that gets its thread meanwhile finds the pause before it does anything.
    while (Atomics.load(domain.i32, at) === 0 && record.get(VcpuField.absent) === 0) {
      const wait = waiter.waitAsync(domain.i32, at, 0);
      if (wait.async) await wait.value;
    }
  }
}

export function unpauseDomain(domain: Domain): void {
  if (Atomics.sub(domain.i32, Field.pauseCount, 1) !== 1) return;
  for (const record of domain.vcpus) record.ring();
}
