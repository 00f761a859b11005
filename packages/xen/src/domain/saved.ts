/** A domain's control block as bytes, and back: everything that the hypervisor knows of it beside its memory and its vcpus' registers. */
import { type Frame, type Gfn, type GuestMemory, PAGE_BYTES } from "@xenoserver/cpu";
import { EvtchnStatus } from "../abi/event-channel.ts";
import { HvmParam } from "../abi/hvm.ts";
import { hostPortField, setHostPortField, setPortField } from "../evtchn/ports.ts";
import { setSystemTime } from "../time/clock.ts";
import { markStopped } from "../time/pvclock.ts";
import { Domain } from "./domain.ts";
import {
  CONTROL_BLOCK_BYTES,
  Field,
  GRANT_PINS_AT,
  HOST_PENDING_AT,
  HostPortField,
  MAX_FIFO_PAGES,
  MAX_GRANT_FRAMES,
  MAX_HOST_PORTS,
  MAX_PORTS,
  PortField,
  VcpuField,
  vcpuAt,
} from "./layout.ts";

/** The domain must stand still, and its backends must have answered what they took. */
export function saveControl(domain: Domain): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(CONTROL_BLOCK_BYTES);
  bytes.set(new Uint8Array(domain.buffer));
  return bytes;
}

/**
 * Makes a control block of saved bytes. Its event channels wait for backends to bind them again, no grant is mapped, and nobody asks
 * for a pause.
 * @param memory    with the domain's frames in it
 * @param systemNs  the system time at which the domain goes on
 * @throws TypeError   if the bytes are no control block of this version
 * @throws RangeError  if a field points out of the domain's memory
 */
export function loadControl(bytes: Uint8Array, memory: GuestMemory, systemNs: number): Domain {
  if (bytes.length !== CONTROL_BLOCK_BYTES)
    throw new TypeError(`control block: ${bytes.length} bytes, expected ${CONTROL_BLOCK_BYTES}`);
  const buffer = new SharedArrayBuffer(CONTROL_BLOCK_BYTES);
  new Uint8Array(buffer).set(bytes);
  const domain = Domain.attach(buffer, memory);
  for (const field of [Field.shutdown, Field.shutdownCode, Field.pauseCount]) domain.set(field, 0);
  for (const lock of [Field.evtchnLock, Field.grantLock, Field.physmapLock, Field.fifoLock]) domain.set(lock, 0);
  placeFrames(domain);
  freeHostPorts(domain);
  domain.i32.fill(0, GRANT_PINS_AT, vcpuAt(0));
  setSystemTime(domain, systemNs);
  for (const record of domain.vcpus) markStopped(domain, record);
  return domain;
}

/** What names a frame by its place in the memory's buffer is found again by the frame's number. */
function placeFrames(domain: Domain): void {
  const check = (frame: number): Frame => {
    if (frame < 0 || frame >= domain.memory.frameCount)
      throw new RangeError(`control block: frame ${frame}, expected one of the domain's ${domain.memory.frameCount}`);
    return frame as Frame;
  };
  domain.setSharedInfoFrame(check(domain.get(Field.sharedInfoFrame)));
  const count = (field: number, most: number): number => {
    const value = domain.get(field);
    if (value < 0 || value > most) throw new RangeError(`control block: ${value} pages, expected at most ${most}`);
    return value;
  };
  for (let n = 0; n < count(Field.nrFifoPages, MAX_FIFO_PAGES); n++)
    domain.set(Field.fifoWords + n, domain.guest.wordOf(check(domain.get(Field.fifoFrames + n))));
  for (let n = 0; n < count(Field.nrGrantFrames, MAX_GRANT_FRAMES); n++) check(domain.get(Field.grantFrames + n));
  for (const record of domain.vcpus) {
    record.set(VcpuField.parked, 0);
    record.set(VcpuField.absent, 0);
    const info = record.get(VcpuField.vcpuInfoFrame);
    domain.placeVcpuInfo(record, info === -1 ? -1 : check(info), checkOffset(record.get(VcpuField.vcpuInfoOffset)));
    const fifo = record.get(VcpuField.fifoFrame);
    if (fifo !== -1)
      record.set(
        VcpuField.fifoWord,
        domain.guest.wordOf(check(fifo)) + checkOffset(record.get(VcpuField.fifoOffset)) / 4,
      );
  }
}

/** Of a structure of 64 bytes within its page, or within the shared info. */
function checkOffset(offset: number): number {
  if (offset < 0 || offset > PAGE_BYTES - 64 || offset % 4 !== 0)
    throw new RangeError(`control block: offset ${offset}, expected a word of a page`);
  return offset;
}

/** The guest's ends become as they were before a backend bound them. */
function freeHostPorts(domain: Domain): void {
  for (let port = 1; port < MAX_HOST_PORTS; port++) {
    if (hostPortField(domain, port, HostPortField.state) === EvtchnStatus.interdomain) {
      const guestPort = hostPortField(domain, port, HostPortField.guestPort);
      if (guestPort < 1 || guestPort >= MAX_PORTS)
        throw new RangeError(`control block: port ${guestPort}, expected one of ${MAX_PORTS}`);
      setPortField(domain, guestPort, PortField.remotePort, 0);
      setPortField(domain, guestPort, PortField.state, EvtchnStatus.unbound);
    }
    setHostPortField(domain, port, HostPortField.guestPort, 0);
    setHostPortField(domain, port, HostPortField.state, EvtchnStatus.closed);
  }
  domain.i32.fill(0, HOST_PENDING_AT, HOST_PENDING_AT + MAX_HOST_PORTS / 32);
}

/** Where a domain's console and store are, from the parameters that its guest reads too. */
export function specialPages(domain: Domain): {
  readonly xenstorePort: number;
  readonly consolePort: number;
  readonly xenstoreGfn: Gfn;
  readonly consoleGfn: Gfn;
} {
  const value = (param: number): number => domain.hvmParam(param).lo;
  return {
    xenstorePort: value(HvmParam.STORE_EVTCHN),
    consolePort: value(HvmParam.CONSOLE_EVTCHN),
    xenstoreGfn: value(HvmParam.STORE_PFN) as Gfn,
    consoleGfn: value(HvmParam.CONSOLE_PFN) as Gfn,
  };
}
