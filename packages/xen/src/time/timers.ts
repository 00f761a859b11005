/** A vcpu's own timers. Only that vcpu's thread sets and fires them, so they need no lock. */
import { Virq } from "../abi/xen.ts";
import { apicTimerDeadlineNs, fireApicTimer } from "../apic/timer.ts";
import type { Domain } from "../domain/domain.ts";
import { VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import { sendVcpuVirq } from "../evtchn/send.ts";

/** System time at which the next timer is due, or Infinity. */
export function nextDeadlineNs(record: VcpuRecord): number {
  return Math.min(nextVirqDeadlineNs(record), apicTimerDeadlineNs(record));
}

function nextVirqDeadlineNs(record: VcpuRecord): number {
  return Math.min(record.getF64(VcpuField.singleshotDeadlineNsF64), record.getF64(VcpuField.periodicDeadlineNsF64));
}

/** @param deadlineNs  system time; Infinity stops the timer */
export function setSingleshot(record: VcpuRecord, deadlineNs: number): void {
  record.setF64(VcpuField.singleshotDeadlineNsF64, deadlineNs);
}

/** @param periodNs  0 stops the timer */
export function setPeriodic(record: VcpuRecord, periodNs: number, nowNs: number): void {
  record.setF64(VcpuField.periodicPeriodNsF64, periodNs);
  record.setF64(VcpuField.periodicDeadlineNsF64, periodNs === 0 ? Infinity : nowNs + periodNs);
}

/** Raises VIRQ_TIMER if a timer is due, and the local APIC's vector; a periodic timer that is late by several periods fires once. */
export function fireDueTimers(domain: Domain, record: VcpuRecord, nowNs: number): void {
  fireApicTimer(record, nowNs);
  if (nowNs < nextVirqDeadlineNs(record)) return;
  if (nowNs >= record.getF64(VcpuField.singleshotDeadlineNsF64)) setSingleshot(record, Infinity);
  const due = record.getF64(VcpuField.periodicDeadlineNsF64);
  if (nowNs >= due) {
    const period = record.getF64(VcpuField.periodicPeriodNsF64);
    record.setF64(VcpuField.periodicDeadlineNsF64, due + (Math.floor((nowNs - due) / period) + 1) * period);
  }
  sendVcpuVirq(domain, record, Virq.TIMER);
}
