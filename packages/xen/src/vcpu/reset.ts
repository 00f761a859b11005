/** The hypervisor's part of a vcpu's reset. */

import { Runstate } from "../abi/vcpu.ts";
import { initialApicBase, resetApic } from "../apic/local-apic.ts";
import { VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import { resetMtrr } from "../msr/mtrr.ts";

/** Registers of the local APIC and the memory type ranges, as after power-on. */
export function resetVcpu(record: VcpuRecord): void {
  record.set(VcpuField.apicBaseLo, initialApicBase(record.id));
  resetApic(record);
  resetMtrr(record);
  record.set(VcpuField.runstate, Runstate.offline);
}
