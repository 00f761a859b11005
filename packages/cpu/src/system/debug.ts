import { Flag } from "../semantics/flags.ts";
import { SlowAccess, State } from "../state/layout.ts";
import { Vector } from "./faults.ts";
import type { Machine } from "./machine.ts";

/** Debug registers: breakpoints on execution and on data, and single-stepping. */

const DR6_SINGLE_STEP = 0x4000;
/** Kinds of breakpoint in DR7. */
const Kind = { execute: 0, write: 1, readWrite: 3 } as const;
const LENGTHS = [1, 2, 8, 4];

interface Breakpoint {
  readonly number: number;
  readonly kind: number;
  readonly address: number;
  readonly lengthBytes: number;
}

function armed(m: Machine): Breakpoint[] {
  const dr7 = m.get32(State.dr + 7 * 8);
  const found: Breakpoint[] = [];
  for (let n = 0; n < 4; n++) {
    if (!((dr7 >> (n * 2)) & 3)) continue;
    const control = (dr7 >> (16 + n * 4)) & 15;
    const lengthBytes = LENGTHS[control >> 2];
    const address = Math.floor(m.getAddress(State.dr + n * 8) / lengthBytes) * lengthBytes;
    found.push({ number: n, kind: control & 3, address, lengthBytes });
  }
  return found;
}

/** What a vcpu that steps knows between two instructions. */
export class DebugState {
  private readonly m: Machine;
  /** DR6 bits of data breakpoints hit by the current instruction. */
  private hits = 0;

  constructor(m: Machine) {
    this.m = m;
  }

  /**
   * Looks at one data access.
   * @returns 1 if it faults (#AC); the fault is in the state
   */
  accessed(va: number, sizeBytes: number, isWrite: boolean): number {
    const { m } = this;
    const slow = m.get32(State.slowAccess);
    // What the processor itself reads on behalf of a program, descriptors and the like, may lie anywhere.
    const checked = slow & SlowAccess.alignment && m.cpl === 3;
    if (checked && va % Math.min(sizeBytes, 16) !== 0 && isPowerOfTwo(sizeBytes)) {
      m.set32(State.faultVector, Vector.ac);
      m.set32(State.faultErrorCode, 0);
      return 1;
    }
    if (slow & SlowAccess.breakpoints) this.noteHits(va, sizeBytes, isWrite);
    return 0;
  }
  private noteHits(va: number, sizeBytes: number, isWrite: boolean): void {
    for (const b of armed(this.m)) {
      const watches = b.kind === Kind.readWrite || (b.kind === Kind.write && isWrite);
      if (watches && va < b.address + b.lengthBytes && b.address < va + sizeBytes) this.hits |= 1 << b.number;
    }
  }

  /** Before an instruction: true if an execution breakpoint stops it; DR6 says which. */
  stopsBefore(rip: number): boolean {
    const { m } = this;
    this.hits = 0;
    if (m.get32(State.flagsSystem) & Flag.rf) return false;
    let hits = 0;
    for (const b of armed(m)) if (b.kind === Kind.execute && b.address === rip) hits |= 1 << b.number;
    if (hits) this.report(hits);
    return hits !== 0;
  }
  /** After an instruction that began with TF as `stepping`: true if #DB is due; DR6 says why. */
  stopsAfter(stepping: boolean): boolean {
    const hits = this.hits | (stepping ? DR6_SINGLE_STEP : 0);
    this.hits = 0;
    if (hits) this.report(hits);
    return hits !== 0;
  }
  private report(bits: number): void {
    const at = State.dr + 6 * 8;
    this.m.set32(at, (this.m.get32(at) & ~15) | bits);
  }
}

const isPowerOfTwo = (n: number): boolean => (n & (n - 1)) === 0;
