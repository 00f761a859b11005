/**
 * Where everything lies in a domain's control block, in 32-bit words from its start. Fields that end in `F64` are
 * indices of 64-bit words instead. The block is one SharedArrayBuffer that every vcpu's thread and the backends see.
 */

import { FIFO_NR_CHANNELS, FIFO_QUEUES, FIFO_WORDS_PER_PAGE } from "../abi/event-channel.ts";
import { GRANT_ENTRIES_PER_FRAME } from "../abi/grant-table.ts";
import { HVM_NR_PARAMS } from "../abi/hvm.ts";
import { NR_VIRQS } from "../abi/xen.ts";

export const CONTROL_MAGIC = 0x58534342;
export const CONTROL_VERSION = 3;

export const MAX_VCPUS = 8;
export const MAX_GRANT_FRAMES = 64;
export const MAX_PORTS = 4096;
export const MAX_HOST_PORTS = 1024;
export const MAX_FIFO_PAGES = FIFO_NR_CHANNELS / FIFO_WORDS_PER_PAGE;
/** Pages that the builder made and the guest does not own: console, xenstore, the BIOS area. */
export const MAX_SPECIAL_FRAMES = 80;
export const MAX_E820 = 64;
/** Base and size as low and high half each, then the type. */
export const E820_WORDS = 5;

let next = 0;
function words(count: number): number {
  const at = next;
  next += count;
  return at;
}
function f64s(count: number): number {
  next += next & 1;
  return words(count * 2) / 2;
}

/** Fields that a domain has once. */
export const Field = {
  magic: words(1),
  version: words(1),
  domid: words(1),
  nrVcpus: words(1),
  /** 0 while alive, else 1 + SHUTDOWN_* reason. */
  shutdown: words(1),
  /** 0, or 1 + the reason that SCHEDOP_shutdown_code latched. */
  shutdownCode: words(1),
  /** How many times the toolstack asked for a pause. */
  pauseCount: words(1),
  /** Bumped whenever a gfn changes its frame; vcpus drop their translations when they see a new value. */
  physmapGeneration: words(1),
  /** Bumped to wake the backends' thread. */
  backendDoorbell: words(1),
  evtchnLock: words(1),
  grantLock: words(1),
  physmapLock: words(1),
  sharedInfoFrame: words(1),
  /** Where the guest put the shared information page, or −1. */
  sharedInfoGfn: words(1),
  /** Word index of the shared information page inside guest memory's buffer. */
  sharedInfoWord: words(1),
  /** 1 once the guest was seen to use the 32-bit layout. */
  sharedInfo32: words(1),
  vmAssist: words(1),
  /** Vector of HVM_PARAM_CALLBACK_IRQ type 2, or 0. */
  callbackVector: words(1),
  /** Frames that the guest owns now, and the most it may own. */
  currentPages: words(1),
  maxPages: words(1),
  maxGfn: words(1),
  nrGrantFrames: words(1),
  nrFifoPages: words(1),
  /** 1 once a vcpu registered a FIFO control block. */
  fifo: words(1),
  uuid: words(4),
  /** The memory map that the guest was built with, `MAX_E820` entries of `E820_WORDS`. */
  e820Count: words(1),
  e820: words(MAX_E820 * E820_WORDS),
  hvmParams: words(HVM_NR_PARAMS * 2),
  grantFrames: words(MAX_GRANT_FRAMES),
  grantGfns: words(MAX_GRANT_FRAMES),
  specialFrames: words(MAX_SPECIAL_FRAMES),
  /** Held while an event is linked into a FIFO queue. */
  fifoLock: words(1),
  fifoFrames: words(MAX_FIFO_PAGES),
  /** Word index of each page of the event array inside guest memory's buffer. */
  fifoWords: words(MAX_FIFO_PAGES),
  /** See vcpu/cap.ts: percent of one processor, 0 for none; the period that was seen last; what was taken in it. */
  capPercent: words(1),
  capPeriod: words(1),
  capSpentUs: words(1),
  /** Seconds on the monotonic host clock that system time counts from. */
  clockBaseSecondsF64: f64s(1),
  /** Added to the host clock: the system time at which a restored domain goes on. */
  clockOffsetNsF64: f64s(1),
  /** Nanoseconds since the Unix epoch at system time 0. */
  wallClockBaseNsF64: f64s(1),
} as const;

/** One record per port of the guest. */
export const PortField = {
  state: 0,
  notifyVcpu: 1,
  /** Virtual interrupt number, or the remote domain's id. */
  remote: 2,
  /** The other end: a host port if `remote` is 0, else a port of this domain. */
  remotePort: 3,
  priority: 4,
  /** Where a FIFO event was last queued: vcpu × 16 + priority. */
  lastQueue: 5,
  /** 1 if the port became pending before the guest gave the page with its event word. */
  pendingEarly: 6,
  words: 8,
} as const;
export const PORTS_AT = words(MAX_PORTS * PortField.words);

/** One record per port of the host's backends. */
export const HostPortField = { state: 0, guestPort: 1, words: 2 } as const;
export const HOST_PORTS_AT = words(MAX_HOST_PORTS * HostPortField.words);
/** One bit per host port: notified and not yet seen by the backends' thread. */
export const HOST_PENDING_AT = words(MAX_HOST_PORTS / 32);

/** Pin counts of each grant: readers in the low half, writers in the high half. */
export const GRANT_PINS_AT = words(MAX_GRANT_FRAMES * GRANT_ENTRIES_PER_FRAME);

next += next & 1;
const vcpusAt = next;
next = 0;

/** Fields that every vcpu has. */
export const VcpuField = {
  /** Bumped to wake the vcpu from `Atomics.wait`. */
  doorbell: words(1),
  /** `VcpuLife`. */
  life: words(1),
  /** 0, or 0x100 | vector of a startup IPI that the vcpu has not taken yet. */
  sipi: words(1),
  /** 1 after an INIT IPI that the vcpu has not taken yet. */
  init: words(1),
  /** 1 while there is no thread for the vcpu: what rings it wakes the backends' thread, which starts one if the vcpu has to do anything. */
  absent: words(1),
  /** The physmap generation whose translations the vcpu had forgotten when it last went into the guest. */
  physmapSeen: words(1),
  /** 1 while the vcpu's thread is parked for a pause. */
  parked: words(1),
  /** `BlockKind`. */
  block: words(1),
  /** While polling: the port waited for, or −1 for any. */
  pollPort: words(1),
  vcpuInfoFrame: words(1),
  vcpuInfoOffset: words(1),
  /** Word index of `vcpu_info` inside guest memory's buffer. */
  vcpuInfoWord: words(1),
  /** Vector of HVMOP_set_evtchn_upcall_vector, or 0. */
  upcallVector: words(1),
  runstate: words(1),
  runstateRegistered: words(1),
  timeAreaRegistered: words(1),
  virqPorts: words(NR_VIRQS),
  apicBaseLo: words(1),
  /** One bit for every word of the IRR that may be non-zero. */
  irrSummary: words(1),
  irr: words(8),
  /** 1 while a non-maskable interrupt waits. */
  nmi: words(1),
  isr: words(8),
  tpr: words(1),
  ldr: words(1),
  dfr: words(1),
  svr: words(1),
  esr: words(1),
  icrLo: words(1),
  icrHi: words(1),
  /** CMCI, timer, thermal, performance counter, LINT0, LINT1, error. */
  lvt: words(7),
  timerInitialCount: words(1),
  timerDivide: words(1),
  mtrrDefTypeLo: words(1),
  mtrrFixed: words(22),
  mtrrVariable: words(32),
  fifoFrame: words(1),
  fifoOffset: words(1),
  /** Word index of the control block inside guest memory's buffer. */
  fifoWord: words(1),
  fifoTails: words(FIFO_QUEUES),
  singleshotDeadlineNsF64: f64s(1),
  periodicPeriodNsF64: f64s(1),
  periodicDeadlineNsF64: f64s(1),
  pollDeadlineNsF64: f64s(1),
  /** Of the local APIC's timer; Infinity if it is stopped. */
  apicTimerDeadlineNsF64: f64s(1),
  runstateEntryNsF64: f64s(1),
  runstateTimesNsF64: f64s(4),
  runstateAreaF64: f64s(1),
  timeAreaF64: f64s(1),
} as const;
export const VCPU_WORDS = (next + 15) & ~15;

export const VcpuLife = {
  /** Waits for a startup IPI. */
  uninitialised: 0,
  online: 1,
  /** Taken down by VCPUOP_down or a halt with interrupts off. */
  down: 2,
} as const;
/** Why an online vcpu does not run: it does not, SCHEDOP_block, SCHEDOP_poll, HLT. */
export const BlockKind = { none: 0, block: 1, poll: 2, halt: 3 } as const;

export const vcpuAt = (id: number): number => vcpusAt + id * VCPU_WORDS;
export const CONTROL_BLOCK_BYTES = (vcpusAt + MAX_VCPUS * VCPU_WORDS) * 4;
