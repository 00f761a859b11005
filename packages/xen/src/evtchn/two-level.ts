/**
 * The two-level ABI: a bitmap of pending ports and one of masked ports in the shared information page, and in each
 * vcpu's `vcpu_info` a word that says which parts of the bitmap to look at.
 */

import type { Domain } from "../domain/domain.ts";
import { Field, PortField, VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import { portField } from "./ports.ts";
import { markUpcallPending } from "./upcall.ts";

function pendingWord(domain: Domain): number {
  return domain.wordAt(Field.sharedInfoWord) + domain.sharedInfoLayout.evtchn_pending / 4;
}

function maskWord(domain: Domain): number {
  return domain.wordAt(Field.sharedInfoWord) + domain.sharedInfoLayout.evtchn_mask / 4;
}

/** Selects the port's part of the bitmap for its vcpu and asks for an upcall if it was not selected already. */
function select(domain: Domain, port: number, record: VcpuRecord): void {
  const layout = domain.sharedInfoLayout;
  const sel = record.wordAt(VcpuField.vcpuInfoWord) + layout.evtchn_pending_sel / 4;
  const bit = Math.floor(port / (layout.ulongBytes * 8));
  if (!domain.guest.testAndSetBit(sel, bit)) markUpcallPending(domain, record);
}

/** Makes a port pending; true if it was not pending before. */
export function setPending2l(domain: Domain, port: number, record: VcpuRecord): boolean {
  if (port >= domain.sharedInfoLayout.nrPorts) return false;
  if (domain.guest.testAndSetBit(pendingWord(domain), port)) return false;
  domain.memory.markWritten(domain.sharedInfoFrame);
  if (!domain.guest.testBit(maskWord(domain), port)) select(domain, port, record);
  return true;
}

export function clearPending2l(domain: Domain, port: number): void {
  if (port >= domain.sharedInfoLayout.nrPorts) return;
  domain.guest.testAndClearBit(pendingWord(domain), port);
  domain.memory.markWritten(domain.sharedInfoFrame);
}

/** Clears a port's mask; if an event waited behind it, the upcall is asked for now. */
export function unmask2l(domain: Domain, port: number): void {
  if (port >= domain.sharedInfoLayout.nrPorts) return;
  const wasMasked = domain.guest.testAndClearBit(maskWord(domain), port);
  domain.memory.markWritten(domain.sharedInfoFrame);
  if (wasMasked && domain.guest.testBit(pendingWord(domain), port)) {
    select(domain, port, domain.vcpus[portField(domain, port, PortField.notifyVcpu)]);
  }
}

export function isPending2l(domain: Domain, port: number): boolean {
  return port < domain.sharedInfoLayout.nrPorts && domain.guest.testBit(pendingWord(domain), port);
}

export function isMasked2l(domain: Domain, port: number): boolean {
  return port >= domain.sharedInfoLayout.nrPorts || domain.guest.testBit(maskWord(domain), port);
}

/**
 * After `vcpu_info` moved: every part of the bitmap is selected and an upcall asked for, because the old selector word
 * may have held bits that the guest will never see. Spurious selections are allowed by the ABI.
 */
export function selectAll2l(domain: Domain, record: VcpuRecord): void {
  const layout = domain.sharedInfoLayout;
  const sel = record.wordAt(VcpuField.vcpuInfoWord) + layout.evtchn_pending_sel / 4;
  for (let n = 0; n < layout.ulongBytes / 4; n++) Atomics.store(domain.guest.words, sel + n, -1);
  markUpcallPending(domain, record);
}
