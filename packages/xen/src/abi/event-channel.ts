/** @see xen/include/public/event_channel.h */

/** An event channel's number inside a domain; 0 is never valid. */
export type EvtchnPort = number & { readonly __brand: "EvtchnPort" };

export const EvtchnOp = {
  bind_interdomain: 0,
  bind_virq: 1,
  bind_pirq: 2,
  close: 3,
  send: 4,
  status: 5,
  alloc_unbound: 6,
  bind_ipi: 7,
  bind_vcpu: 8,
  unmask: 9,
  reset: 10,
  init_control: 11,
  expand_array: 12,
  set_priority: 13,
} as const;

export const EvtchnStatus = {
  closed: 0,
  unbound: 1,
  interdomain: 2,
  pirq: 3,
  virq: 4,
  ipi: 5,
} as const;

export const FIFO_PRIORITY_MAX = 0;
export const FIFO_PRIORITY_DEFAULT = 7;
export const FIFO_PRIORITY_MIN = 15;
export const FIFO_QUEUES = 16;

/** Bits of an event word. */
export const FIFO_PENDING = 1 << 31;
export const FIFO_MASKED = 1 << 30;
export const FIFO_LINKED = 1 << 29;
export const FIFO_BUSY = 1 << 28;
export const FIFO_LINK_BITS = 17;
export const FIFO_LINK_MASK = (1 << FIFO_LINK_BITS) - 1;
export const FIFO_NR_CHANNELS = 1 << FIFO_LINK_BITS;
export const FIFO_WORDS_PER_PAGE = 1024;

/** Byte offsets inside a vcpu's FIFO control block (72 bytes). */
export const FifoControlBlock = { ready: 0, head: 8, bytes: 72 } as const;
