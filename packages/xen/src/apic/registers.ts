/**
 * Offsets of the local APIC's registers in its 4 KiB page; the x2APIC MSR is 0x800 + offset / 16.
 * @see Intel SDM volume 3, "Advanced Programmable Interrupt Controller"
 */
export const ApicReg = {
  id: 0x20,
  version: 0x30,
  tpr: 0x80,
  apr: 0x90,
  ppr: 0xa0,
  eoi: 0xb0,
  rrd: 0xc0,
  ldr: 0xd0,
  dfr: 0xe0,
  svr: 0xf0,
  isr: 0x100,
  tmr: 0x180,
  irr: 0x200,
  esr: 0x280,
  cmci: 0x2f0,
  icrLo: 0x300,
  icrHi: 0x310,
  lvtTimer: 0x320,
  lvtThermal: 0x330,
  lvtPerf: 0x340,
  lvtLint0: 0x350,
  lvtLint1: 0x360,
  lvtError: 0x370,
  timerInitial: 0x380,
  timerCurrent: 0x390,
  timerDivide: 0x3e0,
  selfIpi: 0x3f0,
} as const;

/** Version 0x14, six LVT entries, as Xen's virtual APIC reports. */
export const APIC_VERSION = 0x50014;
export const APIC_PAGE = 0xfee00000;
export const X2APIC_MSR_FIRST = 0x800;
export const X2APIC_MSR_LAST = 0x8ff;

export const APIC_BASE_BSP = 1 << 8;
export const APIC_BASE_X2APIC = 1 << 10;
export const APIC_BASE_ENABLE = 1 << 11;

export const SVR_ENABLE = 1 << 8;
export const LVT_MASKED = 1 << 16;

/** Delivery modes of the interrupt command register, bits 10:8. */
export const DeliveryMode = { fixed: 0, lowest: 1, smi: 2, nmi: 4, init: 5, startup: 6 } as const;
export const ICR_LOGICAL = 1 << 11;
export const ICR_LEVEL_ASSERT = 1 << 14;
export const ICR_TRIGGER_LEVEL = 1 << 15;
