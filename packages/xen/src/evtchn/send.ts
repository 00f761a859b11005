/** Making ports pending, and sending from one end of a channel to the other. */
import { Errno } from "../abi/errno.ts";
import { EvtchnStatus } from "../abi/event-channel.ts";
import { DOMID_BACKEND } from "../abi/xen.ts";
import type { Domain } from "../domain/domain.ts";
import { BlockKind, Field, PortField, VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import { clearPendingFifo, isMaskedFifo, isPendingFifo, setPendingFifo, unmaskFifo } from "./fifo.ts";
import { isOpenPort, portField, raiseHostPort } from "./ports.ts";
import { clearPending2l, isMasked2l, isPending2l, setPending2l, unmask2l } from "./two-level.ts";

const usesFifo = (domain: Domain): boolean => domain.i32[Field.fifo] === 1;

/** Makes a port pending for the vcpu that it notifies, and wakes vcpus that poll it. */
export function setPending(domain: Domain, port: number): void {
  const record = domain.vcpus[portField(domain, port, PortField.notifyVcpu)];
  if (record === undefined) return;
  const isNew = usesFifo(domain) ? setPendingFifo(domain, port, record) : setPending2l(domain, port, record);
  if (isNew) wakePollers(domain, port);
}

export function clearPending(domain: Domain, port: number): void {
  if (usesFifo(domain)) clearPendingFifo(domain, port);
  else clearPending2l(domain, port);
}

export function unmask(domain: Domain, port: number): void {
  if (usesFifo(domain)) unmaskFifo(domain, port);
  else unmask2l(domain, port);
}

export function isPending(domain: Domain, port: number): boolean {
  return usesFifo(domain) ? isPendingFifo(domain, port) : isPending2l(domain, port);
}

export function isMasked(domain: Domain, port: number): boolean {
  return usesFifo(domain) ? isMaskedFifo(domain, port) : isMasked2l(domain, port);
}

/** Ends the polls that wait for this port; a polled port is masked as a rule, so no upcall would. */
function wakePollers(domain: Domain, port: number): void {
  for (const record of domain.vcpus) {
    if (record.get(VcpuField.block) !== BlockKind.poll) continue;
    const wanted = record.get(VcpuField.pollPort);
    if ((wanted === -1 || wanted === port) && record.replace(VcpuField.block, BlockKind.poll, BlockKind.none)) {
      record.ring();
    }
  }
}

/** EVTCHNOP_send. */
export function sendFromGuest(domain: Domain, port: number): number {
  if (!isOpenPort(domain, port)) return -Errno.EINVAL;
  switch (portField(domain, port, PortField.state)) {
    case EvtchnStatus.interdomain: {
      const remotePort = portField(domain, port, PortField.remotePort);
      if (portField(domain, port, PortField.remote) === DOMID_BACKEND) raiseHostPort(domain, remotePort);
      else setPending(domain, remotePort);
      return 0;
    }
    case EvtchnStatus.ipi:
      setPending(domain, port);
      return 0;
    case EvtchnStatus.unbound:
      // The other end may just be reconnecting; the guest is not to blame.
      return 0;
    default:
      return -Errno.EINVAL;
  }
}

/** Raises a virtual interrupt that each vcpu has of its own; nothing happens if the guest bound no port to it. */
export function sendVcpuVirq(domain: Domain, record: VcpuRecord, virq: number): void {
  const port = record.get(VcpuField.virqPorts + virq);
  if (port !== 0) setPending(domain, port);
}
