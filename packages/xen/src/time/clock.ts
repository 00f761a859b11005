/**
 * Time sources. System time is nanoseconds since the domain was created; the guest's TSC counts the same nanoseconds,
 * so the TSC runs at exactly 1 GHz and pvclock's scale is exactly one.
 */
import type { Domain } from "../domain/domain.ts";
import { Field } from "../domain/layout.ts";

/** Frequency of the guest's TSC. */
export const TSC_KHZ = 1_000_000;

export interface Clock {
  /** System time of the domain in whole nanoseconds; never goes back; exact for 104 days. */
  nowNs(): number;
  /** Nanoseconds since the Unix epoch, to the millisecond. */
  wallNs(): number;
}

/** Seconds and nanoseconds of the host's monotonic clock, the same in every thread of the process. */
export type MonotonicSource = () => readonly [number, number];

function defaultSource(): MonotonicSource {
  const hrtime = globalThis.process?.hrtime;
  if (hrtime !== undefined) return hrtime as MonotonicSource;
  return () => {
    const ms = performance.timeOrigin + performance.now();
    const seconds = Math.floor(ms / 1000);
    return [seconds, Math.floor((ms - seconds * 1000) * 1e6)];
  };
}

/** Starts system time at 0 now. Called once, by whoever builds the domain. */
export function startClock(domain: Domain, source: MonotonicSource = defaultSource()): void {
  setSystemTime(domain, 0, source);
  domain.f64[Field.wallClockBaseNsF64] = Date.now() * 1e6;
}

/** Makes system time go on from `systemNs`, as after a restore. */
export function setSystemTime(domain: Domain, systemNs: number, source: MonotonicSource = defaultSource()): void {
  const [seconds, ns] = source();
  domain.f64[Field.clockBaseSecondsF64] = seconds;
  domain.f64[Field.clockOffsetNsF64] = systemNs - ns;
}

/** The clock of a running domain; every thread may have its own and they agree. */
export class HostClock implements Clock {
  readonly #f64: Float64Array;
  readonly #source: MonotonicSource;

  constructor(domain: Domain, source: MonotonicSource = defaultSource()) {
    this.#f64 = domain.f64;
    this.#source = source;
  }

  nowNs(): number {
    const [seconds, ns] = this.#source();
    return (seconds - this.#f64[Field.clockBaseSecondsF64]) * 1e9 + ns + this.#f64[Field.clockOffsetNsF64];
  }

  wallNs(): number {
    return Date.now() * 1e6;
  }
}

/** A clock that stands still until it is told to move, for tests. */
export class FakeClock implements Clock {
  now: number;
  wall: number;

  constructor(nowNs = 0, wallNs = 1_700_000_000 * 1e9) {
    this.now = nowNs;
    this.wall = wallNs;
  }

  nowNs(): number {
    return this.now;
  }

  wallNs(): number {
    return this.wall;
  }

  advance(ns: number): void {
    this.now += ns;
    this.wall += ns;
  }
}
