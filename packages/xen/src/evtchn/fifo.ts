/**
 * The FIFO ABI: every port has an event word in an array of pages that the guest gives, and every vcpu a control block
 * with the heads of sixteen queues, one for each priority. An event word holds PENDING, MASKED, LINKED, BUSY and the
 * next port of its queue. The hypervisor appends at a tail that only it knows; the guest takes from the head.
 * @see xen/include/public/event_channel.h; Xen's docs/designs/event-channels FIFO paper
 */

import type { Frame } from "@xenoserver/cpu";
import { acquire, release } from "@xenoserver/cpu/memory/lock.ts";
import {
  FIFO_BUSY,
  FIFO_LINK_MASK,
  FIFO_LINKED,
  FIFO_MASKED,
  FIFO_PENDING,
  FIFO_QUEUES,
  FifoControlBlock,
} from "../abi/event-channel.ts";
import type { Domain } from "../domain/domain.ts";
import { Field, PortField, VcpuField } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import { eventWord, markEventPage } from "./event-array.ts";
import { portField, setPortField } from "./ports.ts";
import { markUpcallPending } from "./upcall.ts";

/** How often a change of a word is tried against a guest that keeps changing it. */
const MAX_ATTEMPTS = 8;

/** Makes a port pending; true if it was not pending before. */
export function setPendingFifo(domain: Domain, port: number, record: VcpuRecord): boolean {
  const at = eventWord(domain, port);
  if (at < 0) {
    setPortField(domain, port, PortField.pendingEarly, 1);
    return false;
  }
  const words = domain.guest.words;
  const before = Atomics.or(words, at, FIFO_PENDING);
  markEventPage(domain, port);
  if ((before & (FIFO_MASKED | FIFO_LINKED)) === 0) enqueue(domain, port, at, record);
  return (before & FIFO_PENDING) === 0;
}

/** Links an event at the end of its queue and tells the vcpu if the queue was empty. */
function enqueue(domain: Domain, port: number, at: number, record: VcpuRecord): void {
  const control = record.get(VcpuField.fifoFrame);
  if (control === -1) return;
  const words = domain.guest.words;
  const priority = portField(domain, port, PortField.priority);
  let wasEmpty = false;
  acquire(domain.i32, Field.fifoLock);
  try {
    if ((Atomics.or(words, at, FIFO_LINKED) & FIFO_LINKED) !== 0) return;
    leaveOldQueue(domain, port, record, priority);
    const tailField = VcpuField.fifoTails + priority;
    const tail = record.get(tailField);
    wasEmpty = tail === 0 || !linkTail(domain, tail, port);
    const block = record.wordAt(VcpuField.fifoWord);
    if (wasEmpty) Atomics.store(words, block + FifoControlBlock.head / 4 + priority, port);
    record.set(tailField, port);
  } finally {
    release(domain.i32, Field.fifoLock);
  }
  domain.memory.markWritten(control as Frame);
  if (!wasEmpty) return;
  const bit = 1 << priority;
  const ready = Atomics.or(words, record.wordAt(VcpuField.fifoWord) + FifoControlBlock.ready / 4, bit);
  domain.memory.markWritten(control as Frame);
  if ((ready & bit) === 0) markUpcallPending(domain, record);
}

/** If the event was the tail of its last queue, that queue is empty now and nothing may be linked behind it there. */
function leaveOldQueue(domain: Domain, port: number, record: VcpuRecord, priority: number): void {
  const queue = record.id * FIFO_QUEUES + priority;
  const last = portField(domain, port, PortField.lastQueue);
  const lastRecord = domain.vcpus[Math.floor(last / FIFO_QUEUES)];
  lastRecord?.replace(VcpuField.fifoTails + (last % FIFO_QUEUES), port, 0);
  if (last !== queue) setPortField(domain, port, PortField.lastQueue, queue);
}

/** Makes the tail's word point to `port`; false if the tail is not in the queue any more: then the queue is empty. */
function linkTail(domain: Domain, tail: number, port: number): boolean {
  const words = domain.guest.words;
  const at = eventWord(domain, tail);
  if (at < 0) return false;
  const tried = tryLink(words, at, port);
  if (tried !== undefined) {
    markEventPage(domain, tail);
    return tried;
  }
  // BUSY keeps a decent guest from changing the word; one that goes on only harms its own events.
  Atomics.or(words, at, FIFO_BUSY);
  const again = tryLink(words, at, port) ?? true;
  Atomics.and(words, at, ~FIFO_BUSY);
  markEventPage(domain, tail);
  return again;
}

/** Undefined if the guest changed the word each time. */
function tryLink(words: Int32Array, at: number, port: number): boolean | undefined {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const word = Atomics.load(words, at);
    if ((word & FIFO_LINKED) === 0) return false;
    const linked = (word & ~(FIFO_BUSY | FIFO_LINK_MASK)) | port;
    if (Atomics.compareExchange(words, at, word, linked) === word) return true;
  }
  return undefined;
}

/** The guest unlinks the word itself and ignores it when it is not pending. */
export function clearPendingFifo(domain: Domain, port: number): void {
  setPortField(domain, port, PortField.pendingEarly, 0);
  const at = eventWord(domain, port);
  if (at < 0) return;
  Atomics.and(domain.guest.words, at, ~FIFO_PENDING);
  markEventPage(domain, port);
}

export function unmaskFifo(domain: Domain, port: number): void {
  const at = eventWord(domain, port);
  if (at < 0) return;
  const before = Atomics.and(domain.guest.words, at, ~FIFO_MASKED);
  markEventPage(domain, port);
  if ((before & FIFO_PENDING) === 0) return;
  const record = domain.vcpus[portField(domain, port, PortField.notifyVcpu)];
  setPendingFifo(domain, port, record);
}

export function isPendingFifo(domain: Domain, port: number): boolean {
  const at = eventWord(domain, port);
  if (at < 0) return portField(domain, port, PortField.pendingEarly) === 1;
  return (Atomics.load(domain.guest.words, at) & FIFO_PENDING) !== 0;
}

export function isMaskedFifo(domain: Domain, port: number): boolean {
  const at = eventWord(domain, port);
  return at < 0 || (Atomics.load(domain.guest.words, at) & FIFO_MASKED) !== 0;
}
