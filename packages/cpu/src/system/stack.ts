import { Seg } from "../decode/decoded.ts";
import { Slot, State } from "../state/layout.ts";
import { GuestFault, Vector } from "./faults.ts";
import type { Machine } from "./machine.ts";
import { Attr } from "./registers.ts";

/**
 * A stack during one system instruction: pushes and pops move a copy of the pointer, `commit` makes it the vcpu's. A fault in
 * between leaves the vcpu's own pointer alone.
 */
export class Stack {
  private readonly m: Machine;
  private readonly base: number;
  /** Bits of the pointer that count: 2^16, 2^32, or 0 for all. */
  private readonly modulus: number;
  private readonly width: number;
  private readonly limits: boolean;
  pointer: number;

  /** @param limits  whether the segment that SS holds now limits the stack; one that is yet to be loaded was checked already */
  constructor(m: Machine, pointer: number, width: number, base: number, modulus: number, limits = false) {
    this.limits = limits;
    this.m = m;
    this.pointer = pointer;
    this.width = width;
    this.base = base;
    this.modulus = modulus;
  }

  /** The vcpu's own stack, with elements of `width` bytes. */
  static current(m: Machine, width: number): Stack {
    if (m.is64) return new Stack(m, m.getAddress(4 * 8), width, 0, 0);
    const wide = m.get32(State.segAttr + Seg.ss * 4) & Attr.db;
    const base = m.getAddress(Slot.segBase + Seg.ss * 8);
    return new Stack(m, m.gprLo(4) >>> 0, width, base, wide ? 2 ** 32 : 2 ** 16, true);
  }

  private wrap(n: number): number {
    return this.modulus ? ((n % this.modulus) + this.modulus) % this.modulus : n;
  }
  private linear(): number {
    if (this.modulus === 0) return this.pointer;
    const offset = this.wrap(this.pointer);
    if (this.limits) this.checkLimit(offset);
    return (this.base + offset) >>> 0;
  }
  /** @throws #SS */
  private checkLimit(offset: number): void {
    const { m } = this;
    const limit = m.get32(State.segLimit + Seg.ss * 4) >>> 0;
    const attr = m.get32(State.segAttr + Seg.ss * 4);
    const last = offset + this.width - 1;
    const growsDown = m.isProtected && attr & Attr.expandDown && !(attr & Attr.code);
    const top = attr & Attr.db ? 0xffffffff : 0xffff;
    if (growsDown ? offset <= limit || last > top : last > limit) throw new GuestFault(Vector.ss, 0);
  }
  push(value: number): void {
    this.pointer = this.wrap(this.pointer - this.width);
    const at = this.linear();
    if (this.width === 8) this.m.writeAddress(at, value);
    else if (this.width === 4) this.m.write32(at, value);
    else this.m.write16(at, value);
  }
  /** Pushes a 64-bit value that need not be an address. */
  pushPair(lo: number, hi: number): void {
    this.pointer -= 8;
    this.m.write64(this.linear(), lo, hi);
  }
  /** The top 64-bit element as two halves. */
  popPair(): [lo: number, hi: number] {
    const at = this.linear();
    const host = this.m.host(at, 8, 0);
    this.pointer += 8;
    return [this.m.view.getInt32(host, true), this.m.view.getInt32(host + 4, true)];
  }
  /** The top element: 64-bit ones as signed numbers, narrower ones unsigned. */
  pop(): number {
    const at = this.linear();
    const value =
      this.width === 8 ? this.m.readAddress(at) : this.width === 4 ? this.m.read32(at) >>> 0 : this.m.read16(at);
    this.pointer = this.wrap(this.pointer + this.width);
    return value;
  }
  /** Makes the moved pointer the vcpu's stack pointer. */
  commit(): void {
    if (this.modulus === 2 ** 16) this.m.set32(4 * 8, (this.m.gprLo(4) & ~0xffff) | this.pointer);
    else this.m.setAddress(4 * 8, this.pointer);
  }
}
