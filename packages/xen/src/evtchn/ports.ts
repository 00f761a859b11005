/** The records of a domain's event channels. Changes of binding hold `Field.evtchnLock`; sending reads without it. */
import { EvtchnStatus, FIFO_PRIORITY_DEFAULT } from "../abi/event-channel.ts";
import type { Domain } from "../domain/domain.ts";
import {
  Field,
  HOST_PENDING_AT,
  HOST_PORTS_AT,
  HostPortField,
  MAX_HOST_PORTS,
  MAX_PORTS,
  PORTS_AT,
  PortField,
} from "../domain/layout.ts";
import { isLinked } from "./event-array.ts";

/** A field of a port's record; see `PortField`. */
export function portField(domain: Domain, port: number, field: number): number {
  return Atomics.load(domain.i32, PORTS_AT + port * PortField.words + field);
}

export function setPortField(domain: Domain, port: number, field: number, value: number): void {
  Atomics.store(domain.i32, PORTS_AT + port * PortField.words + field, value);
}

/** How many ports the guest's present ABI can name. */
export function portLimit(domain: Domain): number {
  return domain.get(Field.fifo) === 1 ? MAX_PORTS : domain.sharedInfoLayout.nrPorts;
}

/** True if the number names a port that is in use. */
export function isOpenPort(domain: Domain, port: number): boolean {
  return port > 0 && port < portLimit(domain) && portField(domain, port, PortField.state) !== EvtchnStatus.closed;
}

/** A port that is closed and in no queue any more, or −1 if there is none. */
export function findFreePort(domain: Domain): number {
  const limit = portLimit(domain);
  for (let port = 1; port < limit; port++) {
    const isClosed = portField(domain, port, PortField.state) === EvtchnStatus.closed;
    if (isClosed && !isLinked(domain, port)) return port;
  }
  return -1;
}

export function openPort(
  domain: Domain,
  port: number,
  state: number,
  notifyVcpu: number,
  remote: number,
  remotePort: number,
): void {
  setPortField(domain, port, PortField.notifyVcpu, notifyVcpu);
  setPortField(domain, port, PortField.remote, remote);
  setPortField(domain, port, PortField.remotePort, remotePort);
  // `lastQueue` stays: the port may still be the tail of the queue that it was in before it was closed.
  setPortField(domain, port, PortField.priority, FIFO_PRIORITY_DEFAULT);
  setPortField(domain, port, PortField.state, state);
}

export function hostPortField(domain: Domain, hostPort: number, field: number): number {
  return Atomics.load(domain.i32, HOST_PORTS_AT + hostPort * HostPortField.words + field);
}

export function setHostPortField(domain: Domain, hostPort: number, field: number, value: number): void {
  Atomics.store(domain.i32, HOST_PORTS_AT + hostPort * HostPortField.words + field, value);
}

/** A host port that is closed, or −1. */
export function findFreeHostPort(domain: Domain): number {
  for (let port = 1; port < MAX_HOST_PORTS; port++) {
    if (hostPortField(domain, port, HostPortField.state) === EvtchnStatus.closed) return port;
  }
  return -1;
}

/** Tells the backends' thread that a guest notified one of its ports. */
export function raiseHostPort(domain: Domain, hostPort: number): void {
  const mask = 1 << (hostPort & 31);
  const before = Atomics.or(domain.i32, HOST_PENDING_AT + (hostPort >>> 5), mask);
  if ((before & mask) === 0) domain.ringBackends();
}
