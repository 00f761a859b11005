/** One vcpu's record in the control block, as seen by one thread. */
import { NR_VIRQS } from "../abi/xen.ts";
import { BlockKind, Field, VcpuField, VcpuLife, vcpuAt } from "./layout.ts";

export class VcpuRecord {
  readonly id: number;
  /** Index of the record's first 32-bit word. */
  readonly base: number;
  readonly #i32: Int32Array;
  readonly #f64: Float64Array;
  readonly #baseF64: number;

  constructor(id: number, i32: Int32Array, f64: Float64Array) {
    this.id = id;
    this.base = vcpuAt(id);
    this.#baseF64 = this.base / 2;
    this.#i32 = i32;
    this.#f64 = f64;
  }

  /** A field as a signed number; see `VcpuField`. */
  get(field: number): number {
    return Atomics.load(this.#i32, this.base + field);
  }

  /** A field that holds an index into `guest.words`, which may be beyond 2^31. */
  wordAt(field: number): number {
    return this.get(field) >>> 0;
  }

  set(field: number, value: number): void {
    Atomics.store(this.#i32, this.base + field, value);
  }

  /** Sets bits of a field; the value before. */
  or(field: number, bits: number): number {
    return Atomics.or(this.#i32, this.base + field, bits);
  }

  /** Keeps only the given bits of a field; the value before. */
  and(field: number, bits: number): number {
    return Atomics.and(this.#i32, this.base + field, bits);
  }

  exchange(field: number, value: number): number {
    return Atomics.exchange(this.#i32, this.base + field, value);
  }

  /** Sets a field if it has the expected value; true if it did. */
  replace(field: number, expected: number, value: number): boolean {
    return Atomics.compareExchange(this.#i32, this.base + field, expected, value) === expected;
  }

  getF64(field: number): number {
    return this.#f64[this.#baseF64 + field];
  }

  setF64(field: number, value: number): void {
    this.#f64[this.#baseF64 + field] = value;
  }

  /** Puts every field into the state of a vcpu that nobody has used yet. */
  reset(): void {
    this.set(VcpuField.life, this.id === 0 ? VcpuLife.online : VcpuLife.uninitialised);
    this.set(VcpuField.block, BlockKind.none);
    this.set(VcpuField.vcpuInfoFrame, -1);
    this.set(VcpuField.fifoFrame, -1);
    for (let virq = 0; virq < NR_VIRQS; virq++) this.set(VcpuField.virqPorts + virq, 0);
    this.setF64(VcpuField.singleshotDeadlineNsF64, Infinity);
    this.setF64(VcpuField.periodicDeadlineNsF64, Infinity);
    this.setF64(VcpuField.pollDeadlineNsF64, Infinity);
  }

  /** The doorbell's count: read it, look for work, then `wait` with the count read. */
  get doorbell(): number {
    return this.get(VcpuField.doorbell);
  }

  /** Wakes the vcpu's thread if it sleeps; else its next `wait` comes back at once. */
  ring(): void {
    const at = this.base + VcpuField.doorbell;
    Atomics.add(this.#i32, at, 1);
    Atomics.notify(this.#i32, at, 1);
    if (this.get(VcpuField.absent) === 0) return;
    Atomics.add(this.#i32, Field.backendDoorbell, 1);
    Atomics.notify(this.#i32, Field.backendDoorbell);
  }

  /** True if the vcpu is more than a record that nobody has asked for: it was started, or is to be. */
  get isWanted(): boolean {
    if (this.get(VcpuField.life) !== VcpuLife.uninitialised) return true;
    return this.get(VcpuField.init) !== 0 || this.get(VcpuField.sipi) !== 0;
  }

  /** Sleeps until the doorbell differs from `seen` or the time is up. */
  wait(seen: number, timeoutMs: number): void {
    Atomics.wait(this.#i32, this.base + VcpuField.doorbell, seen, timeoutMs);
  }

  /** As `wait`, on a thread that has other things to do. */
  async waitAsync(seen: number, timeoutMs: number): Promise<void> {
    await Atomics.waitAsync(this.#i32, this.base + VcpuField.doorbell, seen, timeoutMs).value;
  }
}
