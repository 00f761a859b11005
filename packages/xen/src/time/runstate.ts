/** How long each vcpu spent running, runnable, blocked and offline; guests compute steal time from it. */
import type { Gva, Vcpu } from "@xenoserver/cpu";
import { RUNSTATE_INFO_BYTES_32, RUNSTATE_INFO_BYTES_64, type Runstate } from "../abi/vcpu.ts";
import { VMASST_TYPE_runstate_update_flag } from "../abi/xen.ts";
import type { Domain } from "../domain/domain.ts";
import { Field, VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";

/** Moves a vcpu into a state and charges the time since the last change to the state it leaves. */
export function changeRunstate(record: VcpuRecord, state: Runstate, nowNs: number): void {
  const old = record.get(VcpuField.runstate);
  const spent = Math.max(0, nowNs - record.getF64(VcpuField.runstateEntryNsF64));
  const at = VcpuField.runstateTimesNsF64 + old;
  record.setF64(at, record.getF64(at) + spent);
  record.setF64(VcpuField.runstateEntryNsF64, nowNs);
  record.set(VcpuField.runstate, state);
}

/** The four times up to now, in nanoseconds. */
export function runstateTimes(record: VcpuRecord, nowNs: number): number[] {
  const times = [0, 1, 2, 3].map((state) => record.getF64(VcpuField.runstateTimesNsF64 + state));
  times[record.get(VcpuField.runstate)] += Math.max(0, nowNs - record.getF64(VcpuField.runstateEntryNsF64));
  return times;
}

/** `vcpu_runstate_info` for the guest's word size. */
export function encodeRunstate(record: VcpuRecord, nowNs: number, is64: boolean, updating = false): Uint8Array {
  const bytes = new Uint8Array(is64 ? RUNSTATE_INFO_BYTES_64 : RUNSTATE_INFO_BYTES_32);
  const view = new DataView(bytes.buffer);
  const entryAt = is64 ? 8 : 4;
  view.setInt32(0, record.get(VcpuField.runstate), true);
  setU64(view, entryAt, record.getF64(VcpuField.runstateEntryNsF64));
  if (updating) view.setUint8(entryAt + 7, 0x80);
  runstateTimes(record, nowNs).forEach((ns, n) => setU64(view, entryAt + 8 + n * 8, ns));
  return bytes;
}

/** Refreshes the copy in guest memory that the vcpu registered; only in the context of that vcpu. */
export function publishRunstate(domain: Domain, record: VcpuRecord, vcpu: Vcpu, nowNs: number): void {
  if (record.get(VcpuField.runstateRegistered) === 0) return;
  const at = record.getF64(VcpuField.runstateAreaF64) as Gva;
  const is64 = domain.get(Field.sharedInfo32) === 0;
  const flagged = (domain.get(Field.vmAssist) & (1 << VMASST_TYPE_runstate_update_flag)) !== 0;
  if (flagged && !vcpu.writeLinear(at, encodeRunstate(record, nowNs, is64, true))) return;
  vcpu.writeLinear(at, encodeRunstate(record, nowNs, is64));
}

function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}
