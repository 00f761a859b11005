/**
 * The local APIC of one vcpu, and the source of that vcpu's external interrupts. Registers live in the control block;
 * only the vcpu's own thread changes them, except for the request register, which any thread sets bits in.
 */
import type { InterruptSource } from "@xenoserver/cpu";
import type { Domain } from "../domain/domain.ts";
import { VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import { callbackVector } from "../evtchn/upcall.ts";
import type { Clock } from "../time/clock.ts";
import { apicIdOf, sendIpi, x2apicLogicalId } from "./icr.ts";
import { postVector } from "./post.ts";
import {
  APIC_BASE_BSP,
  APIC_BASE_ENABLE,
  APIC_BASE_X2APIC,
  APIC_PAGE,
  APIC_VERSION,
  ApicReg,
  LVT_MASKED,
  SVR_ENABLE,
} from "./registers.ts";
import { changeApicTimerMode, currentCount, startApicTimer, stopApicTimer } from "./timer.ts";

/** LVT registers in the order of `VcpuField.lvt`. */
const LVT_OFFSETS: readonly number[] = [
  ApicReg.cmci,
  ApicReg.lvtTimer,
  ApicReg.lvtThermal,
  ApicReg.lvtPerf,
  ApicReg.lvtLint0,
  ApicReg.lvtLint1,
  ApicReg.lvtError,
];

/** Puts the registers into the state after a reset or an INIT; the APIC base keeps its mode after an INIT. */
export function resetApic(record: VcpuRecord): void {
  for (let n = 0; n < 8; n++) {
    record.set(VcpuField.irr + n, 0);
    record.set(VcpuField.isr + n, 0);
  }
  record.set(VcpuField.irrSummary, 0);
  record.set(VcpuField.tpr, 0);
  record.set(VcpuField.ldr, 0);
  record.set(VcpuField.dfr, -1);
  record.set(VcpuField.svr, 0xff);
  record.set(VcpuField.esr, 0);
  record.set(VcpuField.icrLo, 0);
  record.set(VcpuField.icrHi, 0);
  for (let n = 0; n < LVT_OFFSETS.length; n++) record.set(VcpuField.lvt + n, LVT_MASKED);
  record.set(VcpuField.timerInitialCount, 0);
  record.set(VcpuField.timerDivide, 0);
  stopApicTimer(record);
}

/** The APIC base MSR after power-on: enabled, in xAPIC mode. */
export function initialApicBase(vcpuId: number): number {
  return APIC_PAGE | APIC_BASE_ENABLE | (vcpuId === 0 ? APIC_BASE_BSP : 0) | 0;
}

export class LocalApic implements InterruptSource {
  readonly #domain: Domain;
  readonly #record: VcpuRecord;
  readonly #clock: Clock;

  constructor(domain: Domain, record: VcpuRecord, clock: Clock) {
    this.#domain = domain;
    this.#record = record;
    this.#clock = clock;
  }

  get isX2apic(): boolean {
    return (this.#record.get(VcpuField.apicBaseLo) & APIC_BASE_X2APIC) !== 0;
  }

  get #enabled(): boolean {
    const base = this.#record.get(VcpuField.apicBaseLo);
    return (base & APIC_BASE_ENABLE) !== 0 && (this.#record.get(VcpuField.svr) & SVR_ENABLE) !== 0;
  }

  hasPending(): boolean {
    if (callbackVector(this.#domain, this.#record) !== 0) return true;
    return this.#record.get(VcpuField.irrSummary) !== 0 && this.#deliverable() >= 0;
  }

  get hasNmi(): boolean {
    return this.#record.get(VcpuField.nmi) !== 0;
  }
  takeNmi(): void {
    this.#record.set(VcpuField.nmi, 0);
  }

  acknowledge(): number {
    const callback = callbackVector(this.#domain, this.#record);
    if (callback !== 0) return callback;
    const vector = this.#deliverable();
    if (vector < 0) return -1;
    const word = vector >>> 5;
    const bit = 1 << (vector & 31);
    const before = this.#record.and(VcpuField.irr + word, ~bit);
    if ((before & ~bit) === 0) this.#clearSummary(word);
    this.#record.or(VcpuField.isr + word, bit);
    return vector;
  }

  /** The summary bit goes first and is put back if a sender set a vector meanwhile. */
  #clearSummary(word: number): void {
    this.#record.and(VcpuField.irrSummary, ~(1 << word));
    if (this.#record.get(VcpuField.irr + word) !== 0) this.#record.or(VcpuField.irrSummary, 1 << word);
  }

  /** The highest requested vector above the processor priority, or −1. */
  #deliverable(): number {
    if (!this.#enabled) return -1;
    const vector = this.#highest(VcpuField.irr);
    return vector >= 0 && vector >>> 4 > this.#ppr() >>> 4 ? vector : -1;
  }

  #highest(field: number): number {
    for (let word = 7; word >= 0; word--) {
      const bits = this.#record.get(field + word);
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
    }
    return -1;
  }

  #ppr(): number {
    const tpr = this.#record.get(VcpuField.tpr) & 0xff;
    const isr = Math.max(0, this.#highest(VcpuField.isr));
    return tpr >>> 4 >= isr >>> 4 ? tpr : isr & 0xf0;
  }

  /** A register as an unsigned 32-bit number, or undefined if there is none at the offset. */
  read(offset: number): number | undefined {
    const record = this.#record;
    const id = apicIdOf(record.id);
    const lvt = LVT_OFFSETS.indexOf(offset);
    if (lvt >= 0) return record.get(VcpuField.lvt + lvt) >>> 0;
    const bank = this.#readBank(offset);
    if (bank !== undefined) return bank;
    switch (offset) {
      case ApicReg.id:
        return this.isX2apic ? id : (id << 24) >>> 0;
      case ApicReg.version:
        return APIC_VERSION;
      case ApicReg.tpr:
        return record.get(VcpuField.tpr);
      case ApicReg.apr:
      case ApicReg.rrd:
        return this.isX2apic ? undefined : 0;
      case ApicReg.ppr:
        return this.#ppr();
      case ApicReg.ldr:
        return this.isX2apic ? x2apicLogicalId(id) : record.get(VcpuField.ldr) >>> 0;
      case ApicReg.dfr:
        return this.isX2apic ? undefined : record.get(VcpuField.dfr) >>> 0;
      case ApicReg.svr:
        return record.get(VcpuField.svr);
      case ApicReg.esr:
        return record.get(VcpuField.esr);
      case ApicReg.icrLo:
        return record.get(VcpuField.icrLo) >>> 0;
      case ApicReg.icrHi:
        return record.get(VcpuField.icrHi) >>> 0;
      case ApicReg.timerInitial:
        return record.get(VcpuField.timerInitialCount) >>> 0;
      case ApicReg.timerCurrent:
        return currentCount(record, this.#clock.nowNs());
      case ApicReg.timerDivide:
        return record.get(VcpuField.timerDivide);
      default:
        return undefined;
    }
  }

  /** The 256-bit registers, as eight words 16 bytes apart. */
  #readBank(offset: number): number | undefined {
    const word = (offset & 0x7f) >>> 4;
    switch (offset & ~0x7f) {
      case ApicReg.isr:
        return this.#record.get(VcpuField.isr + word) >>> 0;
      case ApicReg.tmr:
        return 0;
      case ApicReg.irr:
        return this.#record.get(VcpuField.irr + word) >>> 0;
      default:
        return undefined;
    }
  }

  /** False if no register can be written at the offset. */
  write(offset: number, value: number): boolean {
    const record = this.#record;
    const lvt = LVT_OFFSETS.indexOf(offset);
    if (lvt >= 0) {
      // A disabled APIC keeps its local vectors masked.
      const masked = (record.get(VcpuField.svr) & SVR_ENABLE) === 0 ? LVT_MASKED : 0;
      const written = (value & 0x000717ff) | (value & 0x18000) | masked;
      if (offset === ApicReg.lvtTimer) changeApicTimerMode(record, record.get(VcpuField.lvt + lvt), written);
      record.set(VcpuField.lvt + lvt, written);
      return true;
    }
    switch (offset) {
      case ApicReg.tpr:
        record.set(VcpuField.tpr, value & 0xff);
        return true;
      case ApicReg.eoi:
        this.#endOfInterrupt();
        return true;
      case ApicReg.ldr:
        if (this.isX2apic) return false;
        record.set(VcpuField.ldr, value & 0xff000000);
        return true;
      case ApicReg.dfr:
        if (this.isX2apic) return false;
        record.set(VcpuField.dfr, value | 0x0fffffff);
        return true;
      case ApicReg.svr:
        this.#writeSvr(value);
        return true;
      case ApicReg.esr:
        record.set(VcpuField.esr, 0);
        return true;
      case ApicReg.icrLo:
        this.writeIcr(value, this.isX2apic ? record.get(VcpuField.icrHi) : record.get(VcpuField.icrHi) >>> 24);
        return true;
      case ApicReg.icrHi:
        record.set(VcpuField.icrHi, value);
        return true;
      case ApicReg.timerInitial:
        startApicTimer(record, value, this.#clock.nowNs());
        return true;
      case ApicReg.timerDivide:
        record.set(VcpuField.timerDivide, value & 0xb);
        return true;
      case ApicReg.selfIpi:
        if (!this.isX2apic) return false;
        postVector(record, value & 0xff);
        return true;
      default:
        return false;
    }
  }

  /** @param destination  APIC id or logical destination, as wide as the mode has it */
  writeIcr(lo: number, destination: number): void {
    this.#record.set(VcpuField.icrLo, lo & ~(1 << 12));
    sendIpi(this.#domain, this.#record, { lo, destination: destination >>> 0, x2apic: this.isX2apic });
  }

  #endOfInterrupt(): void {
    const vector = this.#highest(VcpuField.isr);
    if (vector >= 0) this.#record.and(VcpuField.isr + (vector >>> 5), ~(1 << (vector & 31)));
  }

  #writeSvr(value: number): void {
    this.#record.set(VcpuField.svr, value & 0x3ff);
    if ((value & SVR_ENABLE) !== 0) return;
    for (let n = 0; n < LVT_OFFSETS.length; n++) this.#record.or(VcpuField.lvt + n, LVT_MASKED);
  }
}
