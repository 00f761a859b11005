/**
 * The ACPI tables of a PVH domain: hardware-reduced, no devices but vcpus that may come later; the MADT is how a kernel finds the others.
 * @see ACPI Specification 5.0, chapter 5
 */
import type { Gpa } from "@xenoserver/cpu";
import { apicIdOf } from "../apic/icr.ts";
import { APIC_PAGE } from "../apic/registers.ts";

const HEADER_BYTES = 36;
const FADT_BYTES = 268;
const FACS_BYTES = 64;
const RSDP_BYTES = 36;
const MADT_HEADER_BYTES = 44;
const LAPIC_ENTRY_BYTES = 8;

const LAPIC_ENABLED = 1;
const BOOT_ARCH_NO_VGA = 1 << 2;
const BOOT_ARCH_NO_CMOS_RTC = 1 << 5;
const FADT_WBINVD = 1 << 0;
const FADT_PROC_C1 = 1 << 2;
const FADT_PWR_BUTTON = 1 << 4;
const FADT_SLP_BUTTON = 1 << 5;
const FADT_HW_REDUCED = 1 << 20;

/**
 * @param enabled  how many of the vcpus the guest is to start by itself
 * @returns        the tables' bytes, to be put at `at`; the RSDP is their first byte
 */
export function acpiTables(at: Gpa, nrVcpus: number, enabled: number): Uint8Array {
  const place = new Placer(at);
  const rsdpAt = place.take(RSDP_BYTES);
  const facsAt = place.put(facs());
  const dsdtAt = place.put(dsdt(nrVcpus, enabled));
  const fadtAt = place.put(fadt(facsAt, dsdtAt));
  const madtAt = place.put(madt(nrVcpus, enabled));
  const xsdtAt = place.put(xsdt([fadtAt, madtAt]));
  place.write(rsdpAt, rsdp(xsdtAt));
  return place.bytes();
}

/** Lays tables one after the other, each on a multiple of 64 bytes. */
class Placer {
  readonly #base: number;
  readonly #buffer = new Uint8Array(0x4000);
  #next = 0;

  constructor(base: number) {
    this.#base = base;
  }

  take(lengthBytes: number): number {
    const at = this.#base + this.#next;
    this.#next += (lengthBytes + 63) & ~63;
    return at;
  }

  put(bytes: Uint8Array): number {
    const at = this.take(bytes.length);
    this.write(at, bytes);
    return at;
  }

  write(at: number, bytes: Uint8Array): void {
    this.#buffer.set(bytes, at - this.#base);
  }

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#next);
  }
}

function putText(bytes: Uint8Array, at: number, text: string): void {
  new TextEncoder().encodeInto(text, bytes.subarray(at));
}

/** Makes the bytes add up to zero by setting the one at `at`. */
function setChecksum(bytes: Uint8Array, at: number, lengthBytes = bytes.length): void {
  bytes[at] = 0;
  const sum = bytes.subarray(0, lengthBytes).reduce((total, byte) => total + byte, 0);
  bytes[at] = -sum & 0xff;
}

/** A table with the standard header. */
function table(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + body.length);
  const view = new DataView(bytes.buffer);
  putText(bytes, 0, signature);
  view.setUint32(4, bytes.length, true);
  bytes[8] = revision;
  putText(bytes, 10, "XENO  ");
  putText(bytes, 16, "XENOSERV");
  view.setUint32(24, 1, true);
  putText(bytes, 28, "XENO");
  view.setUint32(32, 1, true);
  bytes.set(body, HEADER_BYTES);
  setChecksum(bytes, 9);
  return bytes;
}

function setAddress(view: DataView, at: number, address: number): void {
  view.setUint32(at, address, true);
  view.setUint32(at + 4, 0, true);
}

function rsdp(xsdtAt: number): Uint8Array {
  const bytes = new Uint8Array(RSDP_BYTES);
  const view = new DataView(bytes.buffer);
  putText(bytes, 0, "RSD PTR ");
  putText(bytes, 9, "XENO  ");
  bytes[15] = 2;
  view.setUint32(20, RSDP_BYTES, true);
  setAddress(view, 24, xsdtAt);
  setChecksum(bytes, 8, 20);
  setChecksum(bytes, 32);
  return bytes;
}

function xsdt(tables: readonly number[]): Uint8Array {
  const body = new Uint8Array(tables.length * 8);
  const view = new DataView(body.buffer);
  tables.forEach((address, n) => setAddress(view, n * 8, address));
  return table("XSDT", 1, body);
}

function facs(): Uint8Array {
  const bytes = new Uint8Array(FACS_BYTES);
  putText(bytes, 0, "FACS");
  new DataView(bytes.buffer).setUint32(4, FACS_BYTES, true);
  bytes[32] = 2;
  return bytes;
}

function fadt(facsAt: number, dsdtAt: number): Uint8Array {
  const body = new Uint8Array(FADT_BYTES - HEADER_BYTES);
  const view = new DataView(body.buffer);
  const set32 = (at: number, value: number): void => view.setUint32(at - HEADER_BYTES, value, true);
  set32(36, facsAt);
  set32(40, dsdtAt);
  view.setUint16(109 - HEADER_BYTES, BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_CMOS_RTC, true);
  set32(112, FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_HW_REDUCED);
  set32(140, dsdtAt);
  return table("FACP", 5, body);
}

/**
 * A Linux kernel numbers a vcpu that its MADT shows as disabled only if there is a device for it; the event channel and the store tell it then
 * when to bring it up. Under Xen it finds the devices in the same way, for every vcpu that a domain can have.
 */
function dsdt(nrVcpus: number, enabled: number): Uint8Array {
  const later = Array.from({ length: nrVcpus - enabled }, (_, n) => processorDevice(enabled + n));
  return table("DSDT", 2, Uint8Array.from(aml([0x10], [...ascii("\\_SB_"), ...later.flat()])));
}

/** Device (CPUn) { Name (_HID, "ACPI0007")  Name (_UID, n)  Name (_STA, 0xf)  Name (_MAT, Buffer {an entry of a MADT}) } */
function processorDevice(vcpu: number): number[] {
  const entry = lapicEntry(vcpu, true);
  return aml(
    [0x5b, 0x82],
    [
      ...ascii(`CPU${vcpu}`),
      ...amlName("_HID", [0x0d, ...ascii("ACPI0007"), 0]),
      ...amlName("_UID", [0x0a, vcpu]),
      ...amlName("_STA", [0x0a, 0x0f]),
      ...amlName("_MAT", aml([0x11], [0x0a, entry.length, ...entry])),
    ],
  );
}

const ascii = (text: string): number[] => [...new TextEncoder().encode(text)];
const amlName = (name: string, value: readonly number[]): number[] => [0x08, ...ascii(name), ...value];
/** An opcode whose operands have a length before them, which counts itself: up to 63 in one byte, up to 4095 in two. */
function aml(opcode: readonly number[], body: readonly number[]): number[] {
  const short = body.length + 1;
  if (short < 0x40) return [...opcode, short, ...body];
  const long = body.length + 2;
  return [...opcode, 0x40 | (long & 0xf), long >>> 4, ...body];
}

/** The ACPI processor id is what a Linux guest takes as its Xen vcpu id. */
function lapicEntry(vcpu: number, isEnabled: boolean): number[] {
  return [0, LAPIC_ENTRY_BYTES, vcpu, apicIdOf(vcpu), isEnabled ? LAPIC_ENABLED : 0, 0, 0, 0];
}
function madt(nrVcpus: number, enabled: number): Uint8Array {
  const body = new Uint8Array(MADT_HEADER_BYTES - HEADER_BYTES + nrVcpus * LAPIC_ENTRY_BYTES);
  const view = new DataView(body.buffer);
  view.setUint32(0, APIC_PAGE, true);
  for (let vcpu = 0; vcpu < nrVcpus; vcpu++) {
    body.set(lapicEntry(vcpu, vcpu < enabled), MADT_HEADER_BYTES - HEADER_BYTES + vcpu * LAPIC_ENTRY_BYTES);
  }
  return table("APIC", 3, body);
}
