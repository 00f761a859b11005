/**
 * The MSRs that the hypervisor answers. The architectural ones (EFER, STAR and its kin, segment bases, SYSENTER, PAT,
 * TSC, XCR0) are the engine's and never come here. What neither knows raises #GP, which kernels cope with.
 */
import type { Gfn, GuestMemory } from "@xenoserver/cpu";
import { XEN_HYPERCALL_PAGE_MSR } from "../abi/cpuid.ts";
import type { LocalApic } from "../apic/local-apic.ts";
import { resetApic } from "../apic/local-apic.ts";
import {
  APIC_BASE_ENABLE,
  APIC_BASE_X2APIC,
  APIC_PAGE,
  ApicReg,
  X2APIC_MSR_FIRST,
  X2APIC_MSR_LAST,
} from "../apic/registers.ts";
import { setTscDeadline, tscDeadline } from "../apic/timer.ts";
import type { Domain } from "../domain/domain.ts";
import { Field, VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import { hypercallPage } from "./hypercall-page.ts";
import { readMtrr, writeMtrr } from "./mtrr.ts";

const Msr = {
  PLATFORM_ID: 0x17,
  APIC_BASE: 0x1b,
  FEATURE_CONTROL: 0x3a,
  BIOS_SIGN_ID: 0x8b,
  MISC_ENABLE: 0x1a0,
  TSC_DEADLINE: 0x6e0,
} as const;

/** IA32_FEATURE_CONTROL: locked, nothing enabled. */
const FEATURE_CONTROL_LOCKED = 1;
/** IA32_MISC_ENABLE: fast strings; Linux gives up ERMS without it. */
const MISC_ENABLE_FAST_STRING = 1;

const TWO_32 = 2 ** 32;

/** A 64-bit value as two unsigned halves. */
export interface MsrValue {
  readonly lo: number;
  readonly hi: number;
}

export class Msrs {
  readonly #domain: Domain;
  readonly #record: VcpuRecord;
  readonly #apic: LocalApic;
  readonly #is64: () => boolean;

  constructor(domain: Domain, record: VcpuRecord, apic: LocalApic, is64: () => boolean) {
    this.#domain = domain;
    this.#record = record;
    this.#apic = apic;
    this.#is64 = is64;
  }

  /** Undefined: #GP. */
  read(index: number): MsrValue | undefined {
    switch (index) {
      case Msr.APIC_BASE:
        return { lo: this.#record.get(VcpuField.apicBaseLo) >>> 0, hi: 0 };
      case Msr.PLATFORM_ID:
      case Msr.BIOS_SIGN_ID:
        return { lo: 0, hi: 0 };
      case Msr.FEATURE_CONTROL:
        return { lo: FEATURE_CONTROL_LOCKED, hi: 0 };
      case Msr.MISC_ENABLE:
        return { lo: MISC_ENABLE_FAST_STRING, hi: 0 };
      case Msr.TSC_DEADLINE:
        return halves(tscDeadline(this.#record));
    }
    if (isX2apic(index)) return this.#readX2apic(index);
    return readMtrr(this.#record, index);
  }

  /** False: #GP. */
  write(index: number, lo: number, hi: number): boolean {
    switch (index) {
      case Msr.APIC_BASE:
        return this.#writeApicBase(lo, hi);
      case Msr.BIOS_SIGN_ID:
      case Msr.MISC_ENABLE:
        // There is no microcode to ask for the revision of, and nothing to switch off.
        return true;
      case Msr.TSC_DEADLINE:
        setTscDeadline(this.#record, (hi >>> 0) * TWO_32 + (lo >>> 0));
        return true;
      case XEN_HYPERCALL_PAGE_MSR:
        return this.#writeHypercallPage(lo, hi);
    }
    if (isX2apic(index)) return this.#writeX2apic(index, lo, hi);
    return writeMtrr(this.#record, index, lo, hi);
  }

  #readX2apic(index: number): MsrValue | undefined {
    if (!this.#apic.isX2apic) return undefined;
    const offset = (index - X2APIC_MSR_FIRST) * 16;
    // EOI and self-IPI can only be written; the high half of the command register has no MSR of its own.
    if (offset === ApicReg.eoi || offset === ApicReg.selfIpi || offset === ApicReg.icrHi) return undefined;
    const lo = this.#apic.read(offset);
    if (lo === undefined) return undefined;
    return { lo, hi: offset === ApicReg.icrLo ? this.#record.get(VcpuField.icrHi) >>> 0 : 0 };
  }

  #writeX2apic(index: number, lo: number, hi: number): boolean {
    if (!this.#apic.isX2apic) return false;
    const offset = (index - X2APIC_MSR_FIRST) * 16;
    if (offset === ApicReg.icrLo) {
      this.#record.set(VcpuField.icrHi, hi);
      this.#apic.writeIcr(lo, hi);
      return true;
    }
    if (hi !== 0 || offset === ApicReg.icrHi) return false;
    if (offset === ApicReg.eoi && lo !== 0) return false;
    return this.#apic.write(offset, lo);
  }

  /** The page stays where it is; the mode may only go off → xAPIC → x2APIC → off. */
  #writeApicBase(lo: number, hi: number): boolean {
    const old = this.#record.get(VcpuField.apicBaseLo);
    const mode = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
    if (hi !== 0 || ((lo ^ APIC_PAGE) & 0xfffff000) !== 0) return false;
    if ((lo & mode) === APIC_BASE_X2APIC) return false;
    const leavesX2apic = (old & APIC_BASE_X2APIC) !== 0 && (lo & mode) === APIC_BASE_ENABLE;
    const skipsXapic = (old & mode) === 0 && (lo & mode) === mode;
    if (leavesX2apic || skipsXapic) return false;
    this.#record.set(VcpuField.apicBaseLo, (old & ~mode) | (lo & mode));
    if ((old & APIC_BASE_ENABLE) !== 0 && (lo & APIC_BASE_ENABLE) === 0) resetApic(this.#record);
    return true;
  }

  /** Low 12 bits are the page's index, of which there is only the first. */
  #writeHypercallPage(lo: number, hi: number): boolean {
    const gfn = hi * 0x10_0000 + (lo >>> 12);
    if ((lo & 0xfff) !== 0) return false;
    const { memory } = this.#domain;
    if (gfn > this.#domain.get(Field.maxGfn) || !fillPage(memory, gfn as Gfn, hypercallPage())) return false;
    this.#domain.latchWordSize(this.#is64());
    return true;
  }
}

const halves = (value: number): MsrValue => ({ lo: value % TWO_32, hi: Math.floor(value / TWO_32) % TWO_32 });

const isX2apic = (index: number): boolean => index >= X2APIC_MSR_FIRST && index <= X2APIC_MSR_LAST;

function fillPage(memory: GuestMemory, gfn: Gfn, bytes: Uint8Array): boolean {
  const frame = memory.frameAt(gfn);
  if (frame === -1) return false;
  memory.frameBytes(frame).set(bytes);
  memory.markWritten(frame);
  return true;
}
