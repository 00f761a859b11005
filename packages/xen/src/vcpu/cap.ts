/**
 * A domain's cap, as Xen's schedulers have it: how much of the processors' time its vcpus may take together, in percent of one. It is counted in
 * periods: what was taken too much is paid back in the next one, what was left over is lost. Time counts as it passes, with what the host
 * did meanwhile.
 */
import type { Domain } from "../domain/domain.ts";
import { Field } from "../domain/layout.ts";

/** Long enough to cost nothing, short enough that a guest which is held back still answers. */
export const CAP_PERIOD_NS = 10_000_000;

/** @param percent  of one processor, more than 100 for several; 0 for no cap */
export function setCap(domain: Domain, percent: number): void {
  domain.set(Field.capPercent, percent);
  domain.set(Field.capSpentUs, 0);
}

export const hasCap = (domain: Domain): boolean => domain.get(Field.capPercent) !== 0;

const budgetUs = (domain: Domain): number => (domain.get(Field.capPercent) * CAP_PERIOD_NS) / 100 / 1000;
const periodAt = (nowNs: number): number => Math.floor(nowNs / CAP_PERIOD_NS) | 0;

/** How long a vcpu has to wait before it may run; 0 if it may now. */
export function heldBackNs(domain: Domain, nowNs: number): number {
  if (!hasCap(domain)) return 0;
  beginPeriod(domain, periodAt(nowNs));
  const spent = domain.get(Field.capSpentUs);
  return spent < budgetUs(domain) ? 0 : CAP_PERIOD_NS - (nowNs % CAP_PERIOD_NS);
}

/** Whichever vcpu is the first to see a new period pays for those that have passed. */
function beginPeriod(domain: Domain, period: number): void {
  const { i32 } = domain;
  const last = Atomics.load(i32, Field.capPeriod);
  if (last === period || Atomics.compareExchange(i32, Field.capPeriod, last, period) !== last) return;
  const paidUs = Math.max(1, (period - last) | 0) * budgetUs(domain);
  for (let spent = -1, seen = 0; spent !== seen; ) {
    spent = Atomics.load(i32, Field.capSpentUs);
    seen = Atomics.compareExchange(i32, Field.capSpentUs, spent, Math.max(0, spent - paidUs));
  }
}

/** Counts time that a vcpu has run. */
export function chargeCap(domain: Domain, ranNs: number): void {
  Atomics.add(domain.i32, Field.capSpentUs, Math.round(ranNs / 1000));
}
