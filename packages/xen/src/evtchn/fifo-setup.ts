/** Going over to the FIFO ABI: the guest gives a control block per vcpu and pages of event words. */
import type { Frame, Gfn } from "@xenoserver/cpu";
import { locked } from "@xenoserver/cpu/memory/lock.ts";
import { Errno } from "../abi/errno.ts";
import { EvtchnStatus, FIFO_QUEUES, FIFO_WORDS_PER_PAGE, FifoControlBlock } from "../abi/event-channel.ts";
import type { Domain } from "../domain/domain.ts";
import { fitsPage } from "../domain/guest-words.ts";
import { Field, MAX_PORTS, PortField, VcpuField } from "../domain/layout.ts";
import { isUsableGfn } from "../domain/physmap.ts";
import { setPendingFifo } from "./fifo.ts";
import { portField, setPortField } from "./ports.ts";
import { isPending2l } from "./two-level.ts";

function frameOf(domain: Domain, gfn: number): Frame | undefined {
  const frame = isUsableGfn(gfn) ? domain.memory.frameAt(gfn as Gfn) : -1;
  return frame === -1 ? undefined : frame;
}

/**
 * EVTCHNOP_init_control: takes a vcpu's control block; the first one switches the domain over.
 * @param offset  bytes into the page, a multiple of 8
 */
export function initControl(domain: Domain, gfn: number, offset: number, vcpuId: number): number {
  const record = domain.vcpus[vcpuId];
  if (record === undefined) return -Errno.ENOENT;
  if (!fitsPage(offset, FifoControlBlock.bytes, 8)) return -Errno.EINVAL;
  const frame = frameOf(domain, gfn);
  if (frame === undefined) return -Errno.EINVAL;
  return locked(domain.i32, Field.evtchnLock, () => {
    if (record.get(VcpuField.fifoFrame) !== -1) return -Errno.EINVAL;
    record.set(VcpuField.fifoOffset, offset);
    record.set(VcpuField.fifoWord, domain.guest.wordOf(frame) + offset / 4);
    for (let n = 0; n < FIFO_QUEUES; n++) record.set(VcpuField.fifoTails + n, 0);
    record.set(VcpuField.fifoFrame, frame);
    if (domain.get(Field.fifo) === 0) switchOver(domain);
    return 0;
  });
}

/** Events that wait in the two-level bitmap must not be lost: they are raised again once their words exist. */
function switchOver(domain: Domain): void {
  for (let port = 1; port < MAX_PORTS; port++) {
    if (isPending2l(domain, port)) setPortField(domain, port, PortField.pendingEarly, 1);
  }
  domain.set(Field.fifo, 1);
}

/** EVTCHNOP_expand_array: takes the next page of event words. */
export function expandArray(domain: Domain, gfn: number): number {
  if (domain.get(Field.fifo) === 0) return -Errno.EOPNOTSUPP;
  const frame = frameOf(domain, gfn);
  if (frame === undefined) return -Errno.EINVAL;
  return locked(domain.i32, Field.evtchnLock, () => {
    const page = domain.get(Field.nrFifoPages);
    const first = page * FIFO_WORDS_PER_PAGE;
    if (first >= MAX_PORTS) return -Errno.ENOSPC;
    domain.set(Field.fifoFrames + page, frame);
    domain.set(Field.fifoWords + page, domain.guest.wordOf(frame));
    domain.set(Field.nrFifoPages, page + 1);
    for (let port = first; port < first + FIFO_WORDS_PER_PAGE; port++) raiseEarly(domain, port);
    return 0;
  });
}

function raiseEarly(domain: Domain, port: number): void {
  if (portField(domain, port, PortField.pendingEarly) === 0) return;
  setPortField(domain, port, PortField.pendingEarly, 0);
  if (portField(domain, port, PortField.state) === EvtchnStatus.closed) return;
  const record = domain.vcpus[portField(domain, port, PortField.notifyVcpu)];
  setPendingFifo(domain, port, record);
}
