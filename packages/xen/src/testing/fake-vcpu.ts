/** A vcpu without an engine: registers that a test sets, and linear addresses that are guest-physical ones. */
import { type Gpa, Gpr, type GuestMemory, type Gva, type InterruptSource, type Vcpu } from "@xenoserver/cpu";
import { gvaFromHalves } from "../hypercall/context.ts";

export class FakeVcpu implements Vcpu {
  readonly id: number;
  cpl = 0;
  is64 = true;
  interruptsEnabled = true;
  source: InterruptSource | undefined;
  /** What the last `complete…` or `injectGp` call said. */
  completed: string | undefined;
  readonly #memory: GuestMemory;
  readonly #halves = new Uint32Array(32);

  constructor(id: number, memory: GuestMemory) {
    this.id = id;
    this.#memory = memory;
  }

  gprLo(r: Gpr): number {
    return this.#halves[r * 2];
  }
  gprHi(r: Gpr): number {
    return this.#halves[r * 2 + 1];
  }
  setGpr(r: Gpr, lo: number, hi: number): void {
    this.#halves[r * 2] = lo;
    this.#halves[r * 2 + 1] = hi;
  }
  gprNumber(r: Gpr): number {
    return this.gprHi(r) * 2 ** 32 + this.gprLo(r);
  }
  gprGva(r: Gpr): Gva | undefined {
    return gvaFromHalves(this.gprLo(r), this.gprHi(r));
  }
  readLinear(at: Gva, into: Uint8Array): boolean {
    return at >= 0 && this.#memory.read(at as number as Gpa, into);
  }
  writeLinear(at: Gva, from: Uint8Array): boolean {
    return at >= 0 && this.#memory.write(at as number as Gpa, from);
  }
  completeMsrRead(lo: number, hi: number): void {
    this.completed = `msr ${hi.toString(16)}:${lo.toString(16)}`;
  }
  completePortIn(value: number): void {
    this.completed = `port ${value.toString(16)}`;
  }
  completeMmioRead(lo: number, hi: number): void {
    this.completed = `mmio ${hi.toString(16)}:${lo.toString(16)}`;
  }
  injectGp(): void {
    this.completed = "#GP";
  }
  setInterruptSource(source: InterruptSource): void {
    this.source = source;
  }
  describe(): string {
    return `fake vcpu ${this.id}`;
  }

  /** RAX as a signed number: a hypercall's result. */
  get result(): number {
    return this.gprLo(Gpr.rax) | 0;
  }
}
