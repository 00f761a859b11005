/** What a hypercall works with, and how it takes arguments and guest structures apart. */
import type { GuestMemory, Gva, Vcpu } from "@xenoserver/cpu";
import { Gpr } from "@xenoserver/cpu";
import { DOMID_SELF } from "../abi/xen.ts";
import type { Domain } from "../domain/domain.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import type { Clock } from "../time/clock.ts";

export interface HypercallContext {
  readonly domain: Domain;
  /** The calling vcpu; hypercalls run on its own thread. */
  readonly vcpu: Vcpu;
  readonly memory: GuestMemory;
  readonly clock: Clock;
  /** One line for the operator; what it says must not depend on guest bytes. */
  readonly log: (message: string) => void;
  /** Text that the guest writes to the hypervisor's own console: CONSOLEIO_write and port 0xE9. */
  readonly debugConsole?: (text: string) => void;
}

/** The calling vcpu's record. */
export const recordOf = (ctx: HypercallContext): VcpuRecord => ctx.domain.vcpus[ctx.vcpu.id];

/** Linear address from two halves, or undefined if it is not canonical. */
export function gvaFromHalves(lo: number, hi: number): Gva | undefined {
  const signed = hi | 0;
  const top = signed >> 15;
  if (top !== 0 && top !== -1) return undefined;
  return (signed * 0x1_0000_0000 + (lo >>> 0)) as Gva;
}

const REGISTERS_64 = [Gpr.rdi, Gpr.rsi, Gpr.rdx, Gpr.r10, Gpr.r8, Gpr.r9];
const REGISTERS_32 = [Gpr.rbx, Gpr.rcx, Gpr.rdx, Gpr.rsi, Gpr.rdi, Gpr.rbp];

/** The arguments of one call, from registers or from a multicall entry. */
export class HypercallArgs {
  readonly is64: boolean;
  readonly #halves: Uint32Array;

  /** @param halves  low and high half of each of the six arguments */
  constructor(is64: boolean, halves: Uint32Array) {
    this.is64 = is64;
    this.#halves = halves;
  }

  static fromRegisters(vcpu: Vcpu): HypercallArgs {
    const is64 = vcpu.is64;
    const registers = is64 ? REGISTERS_64 : REGISTERS_32;
    const halves = new Uint32Array(12);
    for (let n = 0; n < 6; n++) {
      halves[n * 2] = vcpu.gprLo(registers[n]);
      if (is64) halves[n * 2 + 1] = vcpu.gprHi(registers[n]);
    }
    return new HypercallArgs(is64, halves);
  }

  /** The low 32 bits, unsigned. */
  u32(n: number): number {
    return this.#halves[n * 2];
  }

  /** The high 32 bits, unsigned; 0 in the 32-bit ABI. */
  hi(n: number): number {
    return this.#halves[n * 2 + 1];
  }

  /** The argument as a pointer, or undefined if it is not canonical. */
  pointer(n: number): Gva | undefined {
    return gvaFromHalves(this.#halves[n * 2], this.#halves[n * 2 + 1]);
  }

  isNull(n: number): boolean {
    return this.#halves[n * 2] === 0 && this.#halves[n * 2 + 1] === 0;
  }
}

/** A copy of a guest structure, little-endian, that can be stored back to where it came from. */
export class GuestStruct {
  readonly #bytes: Uint8Array;
  #view: DataView | undefined;
  readonly #at: Gva;
  readonly #vcpu: Vcpu;
  readonly is64: boolean;

  private constructor(vcpu: Vcpu, at: Gva, bytes: Uint8Array, is64: boolean) {
    this.#vcpu = vcpu;
    this.#at = at;
    this.#bytes = bytes;
    this.is64 = is64;
  }

  /** Made when it is asked for: an array's bytes move for it, and most calls just read a number. */
  get view(): DataView {
    this.#view ??= new DataView(this.#bytes.buffer);
    return this.#view;
  }

  /** Copies `lengthBytes` in; undefined if the pointer is bad. */
  static load(ctx: HypercallContext, at: Gva | undefined, lengthBytes: number, is64: boolean): GuestStruct | undefined {
    if (at === undefined) return undefined;
    const bytes = new Uint8Array(lengthBytes);
    return ctx.vcpu.readLinear(at, bytes) ? new GuestStruct(ctx.vcpu, at, bytes, is64) : undefined;
  }

  /** Copies the whole structure back; false if the page cannot be written. */
  store(): boolean {
    return this.#vcpu.writeLinear(this.#at, this.#bytes);
  }

  u16(at: number): number {
    return this.view.getUint16(at, true);
  }

  u32(at: number): number {
    const bytes = this.#bytes;
    return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
  }

  /** A 64-bit field as a number: exact below 2^53, beyond that only its size is meaningful. */
  u64(at: number): number {
    return this.u32(at + 4) * 0x1_0000_0000 + this.u32(at);
  }

  /** A field as wide as the guest's `unsigned long`. */
  ulong(at: number): number {
    return this.is64 ? this.u64(at) : this.u32(at);
  }

  /** A guest handle: a pointer of the guest's word size. */
  pointer(at: number): Gva | undefined {
    return gvaFromHalves(this.u32(at), this.is64 ? this.u32(at + 4) : 0);
  }

  setU16(at: number, value: number): void {
    this.view.setUint16(at, value, true);
  }

  setU32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }

  setU64(at: number, value: number): void {
    this.view.setUint32(at, value % 0x1_0000_0000, true);
    this.view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
  }
}

/** True if a `domid` field names the caller. */
export function isSelf(ctx: HypercallContext, domid: number): boolean {
  return domid === DOMID_SELF || domid === ctx.domain.domid;
}

const logged = new WeakMap<SharedArrayBuffer, Set<string>>();

/** Logs a message the first time that this thread meets it in this domain. */
export function logOnce(ctx: HypercallContext, message: string): void {
  const key = ctx.domain.buffer;
  let seen = logged.get(key);
  if (seen === undefined) logged.set(key, (seen = new Set()));
  // Guests choose the numbers in these messages; do not let them fill the host's memory or its log.
  if (seen.size >= 200 || seen.has(message)) return;
  seen.add(message);
  ctx.log(message);
}
