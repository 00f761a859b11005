/** Opening, closing and describing a guest's ports. Every function returns a port or 0, or a negated `Errno`. */

import { locked } from "@xenoserver/cpu/memory/lock.ts";
import { Errno } from "../abi/errno.ts";
import { EvtchnStatus, FIFO_PRIORITY_MIN } from "../abi/event-channel.ts";
import { DOMID_BACKEND, DOMID_SELF, NR_VIRQS, PER_VCPU_VIRQS } from "../abi/xen.ts";
import type { Domain } from "../domain/domain.ts";
import { Field, HostPortField, MAX_HOST_PORTS, PortField, VcpuField } from "../domain/layout.ts";
import {
  findFreePort,
  hostPortField,
  isOpenPort,
  openPort,
  portField,
  portLimit,
  raiseHostPort,
  setHostPortField,
  setPortField,
} from "./ports.ts";
import { clearPending, setPending } from "./send.ts";

const isSelf = (domain: Domain, domid: number): boolean => domid === DOMID_SELF || domid === domain.domid;

/** Opens a port that `remoteDom` may bind: the backends, or this domain itself. */
export function allocUnbound(domain: Domain, dom: number, remoteDom: number): number {
  if (!isSelf(domain, dom)) return -Errno.EPERM;
  return locked(domain.i32, Field.evtchnLock, () => {
    const port = findFreePort(domain);
    if (port < 0) return -Errno.ENOSPC;
    const remote = isSelf(domain, remoteDom) ? domain.domid : remoteDom;
    openPort(domain, port, EvtchnStatus.unbound, 0, remote, 0);
    return port;
  });
}

/** Connects a new port to an unbound one of this domain or of the backends; the new port is pending at once. */
export function bindInterdomain(domain: Domain, remoteDom: number, remotePort: number): number {
  return locked(domain.i32, Field.evtchnLock, () => {
    const loopback = isSelf(domain, remoteDom);
    if (!loopback && remoteDom !== DOMID_BACKEND) return -Errno.ESRCH;
    const accepts = loopback ? isUnboundForSelf(domain, remotePort) : isUnboundHostPort(domain, remotePort);
    if (!accepts) return -Errno.EINVAL;
    const port = findFreePort(domain);
    if (port < 0) return -Errno.ENOSPC;
    openPort(domain, port, EvtchnStatus.interdomain, 0, loopback ? domain.domid : DOMID_BACKEND, remotePort);
    if (loopback) {
      setPortField(domain, remotePort, PortField.remote, domain.domid);
      setPortField(domain, remotePort, PortField.remotePort, port);
      setPortField(domain, remotePort, PortField.state, EvtchnStatus.interdomain);
    } else {
      setHostPortField(domain, remotePort, HostPortField.guestPort, port);
      setHostPortField(domain, remotePort, HostPortField.state, EvtchnStatus.interdomain);
    }
    // A notification may have been lost while the channel was not yet connected.
    setPending(domain, port);
    return port;
  });
}

function isUnboundForSelf(domain: Domain, port: number): boolean {
  return (
    isOpenPort(domain, port) &&
    portField(domain, port, PortField.state) === EvtchnStatus.unbound &&
    portField(domain, port, PortField.remote) === domain.domid
  );
}

function isUnboundHostPort(domain: Domain, hostPort: number): boolean {
  return (
    hostPort > 0 &&
    hostPort < MAX_HOST_PORTS &&
    hostPortField(domain, hostPort, HostPortField.state) === EvtchnStatus.unbound
  );
}

export function bindVirq(domain: Domain, virq: number, vcpuId: number): number {
  if (virq >= NR_VIRQS) return -Errno.EINVAL;
  // The other virtual interrupts are the control domain's.
  if (!PER_VCPU_VIRQS.includes(virq)) return vcpuId === 0 ? -Errno.EPERM : -Errno.EINVAL;
  const record = domain.vcpus[vcpuId];
  if (record === undefined) return -Errno.ENOENT;
  return locked(domain.i32, Field.evtchnLock, () => {
    if (record.get(VcpuField.virqPorts + virq) !== 0) return -Errno.EEXIST;
    const port = findFreePort(domain);
    if (port < 0) return -Errno.ENOSPC;
    openPort(domain, port, EvtchnStatus.virq, vcpuId, virq, 0);
    record.set(VcpuField.virqPorts + virq, port);
    return port;
  });
}

export function bindIpi(domain: Domain, vcpuId: number): number {
  if (domain.vcpus[vcpuId] === undefined) return -Errno.ENOENT;
  return locked(domain.i32, Field.evtchnLock, () => {
    const port = findFreePort(domain);
    if (port < 0) return -Errno.ENOSPC;
    openPort(domain, port, EvtchnStatus.ipi, vcpuId, 0, 0);
    return port;
  });
}

export function closePort(domain: Domain, port: number): number {
  return locked(domain.i32, Field.evtchnLock, () => {
    if (!isOpenPort(domain, port)) return -Errno.EINVAL;
    const state = portField(domain, port, PortField.state);
    if (state === EvtchnStatus.virq) {
      const record = domain.vcpus[portField(domain, port, PortField.notifyVcpu)];
      for (let virq = 0; virq < NR_VIRQS; virq++) {
        record.replace(VcpuField.virqPorts + virq, port, 0);
      }
    }
    if (state === EvtchnStatus.interdomain) disconnect(domain, port);
    clearPending(domain, port);
    setPortField(domain, port, PortField.state, EvtchnStatus.closed);
    return 0;
  });
}

/** Leaves the other end of a closing channel unbound, waiting for this domain. */
function disconnect(domain: Domain, port: number): void {
  const remotePort = portField(domain, port, PortField.remotePort);
  if (portField(domain, port, PortField.remote) === DOMID_BACKEND) {
    setHostPortField(domain, remotePort, HostPortField.guestPort, 0);
    setHostPortField(domain, remotePort, HostPortField.state, EvtchnStatus.unbound);
    raiseHostPort(domain, remotePort);
  } else if (remotePort !== port) {
    setPortField(domain, remotePort, PortField.remotePort, 0);
    setPortField(domain, remotePort, PortField.state, EvtchnStatus.unbound);
  }
}

export interface PortStatus {
  readonly status: number;
  readonly vcpu: number;
  /** The remote domain, or the virtual interrupt. */
  readonly remote: number;
  readonly remotePort: number;
}

/** @returns undefined if the number names no port at all */
export function portStatus(domain: Domain, port: number): PortStatus | undefined {
  if (port <= 0 || port >= portLimit(domain)) return undefined;
  const status = portField(domain, port, PortField.state);
  if (status === EvtchnStatus.closed) return { status, vcpu: 0, remote: 0, remotePort: 0 };
  return {
    status,
    vcpu: portField(domain, port, PortField.notifyVcpu),
    remote: portField(domain, port, PortField.remote),
    remotePort: portField(domain, port, PortField.remotePort),
  };
}

/** Moves a port's notifications to another vcpu; timers and IPIs stay where they are bound. */
export function bindVcpu(domain: Domain, port: number, vcpuId: number): number {
  if (domain.vcpus[vcpuId] === undefined) return -Errno.ENOENT;
  return locked(domain.i32, Field.evtchnLock, () => {
    if (!isOpenPort(domain, port)) return -Errno.EINVAL;
    const state = portField(domain, port, PortField.state);
    if (state !== EvtchnStatus.unbound && state !== EvtchnStatus.interdomain) return -Errno.EINVAL;
    setPortField(domain, port, PortField.notifyVcpu, vcpuId);
    return 0;
  });
}

export function setPriority(domain: Domain, port: number, priority: number): number {
  // Two-level channels have no priorities.
  if (domain.get(Field.fifo) !== 1) return -Errno.ENOSYS;
  if (priority > FIFO_PRIORITY_MIN) return -Errno.EINVAL;
  return locked(domain.i32, Field.evtchnLock, () => {
    if (!isOpenPort(domain, port)) return -Errno.EINVAL;
    setPortField(domain, port, PortField.priority, priority);
    return 0;
  });
}

/** Closes every port and goes back to the two-level ABI. */
export function resetPorts(domain: Domain): number {
  const limit = portLimit(domain);
  for (let port = 1; port < limit; port++) {
    if (portField(domain, port, PortField.state) !== EvtchnStatus.closed) closePort(domain, port);
  }
  for (const record of domain.vcpus) record.set(VcpuField.fifoFrame, -1);
  domain.set(Field.nrFifoPages, 0);
  domain.set(Field.fifo, 0);
  return 0;
}
