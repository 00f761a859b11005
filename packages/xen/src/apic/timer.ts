/**
 * The local APIC's timer: one-shot, periodic, or armed with a time-stamp counter value. Only the vcpu's own thread sets and fires it.
 * It counts at the frequency of the crystal that CPUID leaf 0x15 names, one step a nanosecond, divided as the guest says.
 *
 * @see Intel SDM volume 3, "APIC Timer"
 */
import { VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import { postVector } from "./post.ts";
import { LVT_MASKED } from "./registers.ts";

/** Bits 18:17 of the timer's LVT register. */
const Mode = { oneShot: 0, periodic: 1, tscDeadline: 2 } as const;
/** The place of the timer in `VcpuField.lvt`. */
const LVT_TIMER = VcpuField.lvt + 1;

const modeOf = (lvt: number): number => (lvt >>> 17) & 3;

export function apicTimerDeadlineNs(record: VcpuRecord): number {
  return record.getF64(VcpuField.apicTimerDeadlineNsF64);
}

export function stopApicTimer(record: VcpuRecord): void {
  record.setF64(VcpuField.apicTimerDeadlineNsF64, Infinity);
}

/** Nanoseconds from one step of the count to the next: 1, 2, 4 … 128. */
function stepNs(record: VcpuRecord): number {
  const written = record.get(VcpuField.timerDivide);
  return 1 << ((((written & 3) | ((written & 8) >>> 1)) + 1) & 7);
}

/** The guest chose a mode; a change to or from deadlines stops the timer. */
export function changeApicTimerMode(record: VcpuRecord, oldLvt: number, newLvt: number): void {
  const usesTsc = (lvt: number): boolean => modeOf(lvt) === Mode.tscDeadline;
  if (usesTsc(oldLvt) !== usesTsc(newLvt)) stopApicTimer(record);
}

/** The guest wrote the initial count: the timer starts, or stops at 0. */
export function startApicTimer(record: VcpuRecord, initialCount: number, nowNs: number): void {
  if (modeOf(record.get(LVT_TIMER)) === Mode.tscDeadline) return;
  record.set(VcpuField.timerInitialCount, initialCount);
  const count = initialCount >>> 0;
  record.setF64(VcpuField.apicTimerDeadlineNsF64, count === 0 ? Infinity : nowNs + count * stepNs(record));
}

export function currentCount(record: VcpuRecord, nowNs: number): number {
  const deadline = apicTimerDeadlineNs(record);
  if (deadline === Infinity || modeOf(record.get(LVT_TIMER)) === Mode.tscDeadline) return 0;
  return Math.min(0xffff_ffff, Math.ceil(Math.max(0, deadline - nowNs) / stepNs(record)));
}

/** @param tsc  a value of the guest's counter, which is system time in nanoseconds; 0 stops the timer */
export function setTscDeadline(record: VcpuRecord, tsc: number): void {
  if (modeOf(record.get(LVT_TIMER)) !== Mode.tscDeadline) return;
  record.setF64(VcpuField.apicTimerDeadlineNsF64, tsc === 0 ? Infinity : tsc);
}

/** 0 when it is not armed, or has fired. */
export function tscDeadline(record: VcpuRecord): number {
  const deadline = apicTimerDeadlineNs(record);
  return deadline === Infinity || modeOf(record.get(LVT_TIMER)) !== Mode.tscDeadline ? 0 : deadline;
}

/** Sends the timer's vector if it is due; a periodic timer that is late by several periods fires once. */
export function fireApicTimer(record: VcpuRecord, nowNs: number): void {
  const due = apicTimerDeadlineNs(record);
  if (nowNs < due) return;
  const lvt = record.get(LVT_TIMER);
  const periodNs = (record.get(VcpuField.timerInitialCount) >>> 0) * stepNs(record);
  const isPeriodic = modeOf(lvt) === Mode.periodic && periodNs > 0;
  const next = isPeriodic ? due + (Math.floor((nowNs - due) / periodNs) + 1) * periodNs : Infinity;
  record.setF64(VcpuField.apicTimerDeadlineNsF64, next);
  if ((lvt & LVT_MASKED) === 0) postVector(record, lvt & 0xff);
}
