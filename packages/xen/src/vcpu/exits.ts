/** Answers to a vcpu's exits. */
import type { Exit, Vcpu } from "@xenoserver/cpu";
import { XEN_HVM_DEBUGCONS_IOPORT } from "../abi/hvm.ts";
import type { LocalApic } from "../apic/local-apic.ts";
import { APIC_BASE_ENABLE, APIC_PAGE } from "../apic/registers.ts";
import { VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import type { Msrs } from "../msr/msrs.ts";

const ALL_ONES = 0xffffffff;
const DEBUG_LINE_CHARACTERS = 256;

type Of<K extends Exit["kind"]> = Extract<Exit, { kind: K }>;

export class ExitHandlers {
  readonly #vcpu: Vcpu;
  readonly #record: VcpuRecord;
  readonly #apic: LocalApic;
  readonly #msrs: Msrs;
  readonly #debugConsole: (text: string) => void;
  #debugLine = "";

  constructor(
    vcpu: Vcpu,
    record: VcpuRecord,
    apic: LocalApic,
    msrs: Msrs,
    debugConsole: ((text: string) => void) | undefined,
  ) {
    this.#vcpu = vcpu;
    this.#record = record;
    this.#apic = apic;
    this.#msrs = msrs;
    this.#debugConsole = debugConsole ?? (() => {});
  }

  msrRead(exit: Of<"msr-read">): void {
    const value = this.#msrs.read(exit.index);
    if (value === undefined) this.#vcpu.injectGp();
    else this.#vcpu.completeMsrRead(value.lo, value.hi);
  }

  msrWrite(exit: Of<"msr-write">): void {
    if (!this.#msrs.write(exit.index, exit.lo, exit.hi)) this.#vcpu.injectGp();
  }

  /** There are no devices on ports: a read finds nobody driving the bus. */
  portIn(exit: Of<"pio-in">): void {
    this.#vcpu.completePortIn(ALL_ONES >>> (32 - exit.sizeBytes * 8));
  }

  portOut(exit: Of<"pio-out">): void {
    if (exit.port !== XEN_HVM_DEBUGCONS_IOPORT || exit.sizeBytes !== 1) return;
    this.#debugLine += String.fromCharCode(exit.value & 0xff);
    if (exit.value === 10 || this.#debugLine.length >= DEBUG_LINE_CHARACTERS) {
      this.#debugConsole(this.#debugLine);
      this.#debugLine = "";
    }
  }

  mmioRead(exit: Of<"mmio-read">): void {
    const offset = this.#apicOffset(exit.gpa);
    if (offset < 0) {
      this.#vcpu.completeMmioRead(ALL_ONES, ALL_ONES);
      return;
    }
    const register = this.#apic.read(offset & ~15) ?? 0;
    // Only the first four of a register's sixteen bytes mean anything.
    const byte = offset & 15;
    this.#vcpu.completeMmioRead(byte < 4 ? register >>> (byte * 8) : 0, 0);
  }

  mmioWrite(exit: Of<"mmio-write">): void {
    const offset = this.#apicOffset(exit.gpa);
    if (offset >= 0 && (offset & 15) === 0 && exit.sizeBytes === 4) this.#apic.write(offset, exit.lo);
  }

  /** Offset into the local APIC's page, or −1 if the address is elsewhere or the page is not shown. */
  #apicOffset(gpa: number): number {
    const shown = (this.#record.get(VcpuField.apicBaseLo) & APIC_BASE_ENABLE) !== 0 && !this.#apic.isX2apic;
    return shown && gpa >= APIC_PAGE && gpa < APIC_PAGE + 4096 ? gpa - APIC_PAGE : -1;
  }
}
