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
export function encodeRunstate(record: VcpuRecord, nowNs: number, is64: boolean): Uint8Array {
  const view = new DataView(new ArrayBuffer(lengthBytes(is64)));
  encodeInto(view, record, nowNs, is64);
  return new Uint8Array(view.buffer);
}

const lengthBytes = (is64: boolean): number => (is64 ? RUNSTATE_INFO_BYTES_64 : RUNSTATE_INFO_BYTES_32);
const entryAt = (is64: boolean): number => (is64 ? 8 : 4);
/** Of the entry time's eight bytes the last: the record is being changed. */
const UPDATE_AT = 7;
const UPDATE = 0x80;

function encodeInto(view: DataView, record: VcpuRecord, nowNs: number, is64: boolean): void {
  const at = entryAt(is64);
  view.setInt32(0, record.get(VcpuField.runstate), true);
  setU64(view, at, record.getF64(VcpuField.runstateEntryNsF64));
  const times = runstateTimes(record, nowNs);
  for (let n = 0; n < times.length; n++) setU64(view, at + 8 + n * 8, times[n]!);
}

/** A vcpu that waits and is woken publishes twice, thousands of times a second; one at a time uses this. */
const PUBLISHED = new Uint8Array(new ArrayBuffer(RUNSTATE_INFO_BYTES_64));
const PUBLISHED_VIEW = new DataView(PUBLISHED.buffer);

/** Refreshes the copy in guest memory that the vcpu registered; only in the context of that vcpu. */
export function publishRunstate(domain: Domain, record: VcpuRecord, vcpu: Vcpu, nowNs: number): void {
  if (record.get(VcpuField.runstateRegistered) === 0) return;
  const at = record.getF64(VcpuField.runstateAreaF64) as Gva;
  const is64 = domain.get(Field.sharedInfo32) === 0;
  const flagged = (domain.get(Field.vmAssist) & (1 << VMASST_TYPE_runstate_update_flag)) !== 0;
  encodeInto(PUBLISHED_VIEW, record, nowNs, is64);
  const bytes = PUBLISHED.subarray(0, lengthBytes(is64));
  if (!flagged) {
    vcpu.writeLinear(at, bytes);
    return;
  }
  const updateAt = entryAt(is64) + UPDATE_AT;
  bytes[updateAt]! |= UPDATE;
  if (!vcpu.writeLinear(at, bytes)) return;
  bytes[updateAt]! &= ~UPDATE;
  vcpu.writeLinear((at + updateAt) as Gva, bytes.subarray(updateAt, updateAt + 1));
}

function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}
