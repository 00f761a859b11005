/** How a vcpu's thread waits. Each wait ends at the latest when the vcpu's next timer is due. */
import type { InterruptSource } from "@xenoserver/cpu";
import type { Domain } from "../domain/domain.ts";
import { BlockKind, Field, VcpuField, VcpuLife } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import { isUpcallPending } from "../evtchn/upcall.ts";
import type { Clock } from "../time/clock.ts";
import { fireDueTimers, nextDeadlineNs } from "../time/timers.ts";

const MAX_WAIT_MS = 0x7fffffff;

/** True if the vcpu must do something other than run or sleep: shutdown, pause, INIT, being taken down. */
export function needsAttention(domain: Domain, record: VcpuRecord): boolean {
  return (
    domain.get(Field.shutdown) !== 0 ||
    domain.get(Field.pauseCount) !== 0 ||
    record.get(VcpuField.init) !== 0 ||
    record.get(VcpuField.life) !== VcpuLife.online
  );
}

/** What a vcpu waits for: that its doorbell has another count than this, or that so much time has passed. */
export interface VcpuWait {
  readonly seen: number;
  readonly timeoutMs: number;
}

/**
 * Looks whether a vcpu that is halted, blocked or polling may run on, which `VcpuField.block` tells afterwards.
 * @returns what it has to wait for before the next look; undefined if it may run, or needs attention
 */
export function lookBlocked(
  domain: Domain,
  record: VcpuRecord,
  source: InterruptSource,
  clock: Clock,
): VcpuWait | undefined {
  const seen = record.doorbell;
  const nowNs = clock.nowNs();
  fireDueTimers(domain, record, nowNs);
  if (mayRun(domain, record, source, nowNs)) {
    record.set(VcpuField.block, BlockKind.none);
    return undefined;
  }
  return needsAttention(domain, record) ? undefined : { seen, timeoutMs: timeoutMs(record, nowNs) };
}

function mayRun(domain: Domain, record: VcpuRecord, source: InterruptSource, nowNs: number): boolean {
  if (source.hasNmi) return true;
  switch (record.get(VcpuField.block)) {
    case BlockKind.halt:
      return source.hasPending();
    case BlockKind.block:
      return source.hasPending() || isUpcallPending(domain, record);
    case BlockKind.poll:
      return source.hasPending() || nowNs >= record.getF64(VcpuField.pollDeadlineNsF64);
    default:
      return true;
  }
}

function timeoutMs(record: VcpuRecord, nowNs: number): number {
  let deadlineNs = nextDeadlineNs(record);
  if (record.get(VcpuField.block) === BlockKind.poll) {
    deadlineNs = Math.min(deadlineNs, record.getF64(VcpuField.pollDeadlineNsF64));
  }
  return Math.min(MAX_WAIT_MS, Math.max(0, (deadlineNs - nowNs) / 1e6));
}
