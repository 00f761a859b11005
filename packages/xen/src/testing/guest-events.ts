/** The guest's side of event channels, for tests: finds and clears pending events as a kernel does. */
import { type Gfn, type Gpa, gfnOf } from "@xenoserver/cpu";
import { EvtchnOp, FIFO_LINK_MASK, FIFO_LINKED, FIFO_MASKED, FIFO_PENDING } from "../abi/event-channel.ts";
import { Hypercall, SHARED_INFO_64 } from "../abi/xen.ts";
import type { Domain } from "../domain/domain.ts";
import { Field, VcpuField } from "../domain/layout.ts";

/** What both ABIs let a kernel do. */
export interface GuestEvents {
  /** Takes all events that wait for a vcpu after an upcall: clears them and returns their ports. */
  handleUpcall(vcpuId: number): number[];
  mask(port: number): void;
  /** Unmasks; true if the hypervisor must be asked, because an event waits behind the mask. */
  unmask(port: number): boolean;
}

/** Reads and clears `evtchn_upcall_pending`. */
function takeUpcall(domain: Domain, vcpuId: number): boolean {
  const at = domain.vcpus[vcpuId].wordAt(VcpuField.vcpuInfoWord);
  return (Atomics.and(domain.guest.words, at, ~0xff) & 0xff) !== 0;
}

export class TwoLevelEvents implements GuestEvents {
  readonly #domain: Domain;

  constructor(domain: Domain) {
    this.#domain = domain;
  }

  get #shared(): number {
    return this.#domain.wordAt(Field.sharedInfoWord);
  }

  handleUpcall(vcpuId: number): number[] {
    const { guest } = this.#domain;
    if (!takeUpcall(this.#domain, vcpuId)) return [];
    const record = this.#domain.vcpus[vcpuId];
    const sel = record.wordAt(VcpuField.vcpuInfoWord) + SHARED_INFO_64.evtchn_pending_sel / 4;
    const ports: number[] = [];
    for (let bit = 0; bit < 64; bit++) {
      if (!guest.testAndClearBit(sel, bit)) continue;
      for (let port = bit * 64; port < bit * 64 + 64; port++) {
        const masked = guest.testBit(this.#shared + SHARED_INFO_64.evtchn_mask / 4, port);
        if (!masked && guest.testAndClearBit(this.#shared + SHARED_INFO_64.evtchn_pending / 4, port)) ports.push(port);
      }
    }
    return ports;
  }

  mask(port: number): void {
    this.#domain.guest.testAndSetBit(this.#shared + SHARED_INFO_64.evtchn_mask / 4, port);
  }

  /** Only the hypervisor can raise an event again for another vcpu, so it is always asked. */
  unmask(_port: number): boolean {
    return true;
  }
}

export class FifoEvents implements GuestEvents {
  readonly #domain: Domain;
  /** Next port of each vcpu's queues; 0: read the head from the control block. */
  readonly #heads = new Map<string, number>();

  constructor(domain: Domain) {
    this.#domain = domain;
  }

  /** Gives control blocks and one page of masked event words, at gfns that the test leaves alone. */
  static setUp(
    domain: Domain,
    hypercall: (number: number, args: readonly number[]) => number,
    poke: (at: number, words: readonly number[]) => void,
    scratch: number,
  ): FifoEvents {
    const page = 0x300000;
    for (const { id } of domain.vcpus) {
      poke(scratch, [gfnOf((page + 4096) as Gpa), 0, id * 128, id, 0, 0]);
      hypercall(Hypercall.event_channel_op, [EvtchnOp.init_control, scratch]);
    }
    const frame = domain.memory.frameAt(gfnOf(page as Gpa));
    const bytes = domain.memory.frameBytes(frame as never);
    new Int32Array(bytes.buffer, bytes.byteOffset, 1024).fill(FIFO_MASKED);
    poke(scratch, [gfnOf(page as Gpa) as Gfn, 0]);
    hypercall(Hypercall.event_channel_op, [EvtchnOp.expand_array, scratch]);
    return new FifoEvents(domain);
  }

  #word(port: number): number {
    return this.#domain.wordAt(Field.fifoWords) + port;
  }

  handleUpcall(vcpuId: number): number[] {
    if (!takeUpcall(this.#domain, vcpuId)) return [];
    const block = this.#domain.vcpus[vcpuId].wordAt(VcpuField.fifoWord);
    const { words } = this.#domain.guest;
    const ports: number[] = [];
    let ready = Atomics.exchange(words, block, 0);
    while (ready !== 0) {
      const priority = 31 - Math.clz32(ready & -ready);
      const { port, last } = this.#takeFirst(vcpuId, priority, block);
      if (last) ready &= ~(1 << priority);
      const word = Atomics.load(words, this.#word(port));
      if ((word & FIFO_PENDING) !== 0 && (word & FIFO_MASKED) === 0) {
        Atomics.and(words, this.#word(port), ~FIFO_PENDING);
        ports.push(port);
      }
      ready |= Atomics.exchange(words, block, 0);
    }
    return ports;
  }

  /** Unlinks the first event of a queue. */
  #takeFirst(vcpuId: number, priority: number, block: number): { port: number; last: boolean } {
    const { words } = this.#domain.guest;
    const queue = `${vcpuId}/${priority}`;
    const port = (this.#heads.get(queue) ?? 0) || Atomics.load(words, block + 2 + priority);
    const before = Atomics.and(words, this.#word(port), ~(FIFO_LINKED | FIFO_LINK_MASK));
    const next = before & FIFO_LINK_MASK;
    this.#heads.set(queue, next);
    return { port, last: next === 0 };
  }

  mask(port: number): void {
    Atomics.or(this.#domain.guest.words, this.#word(port), FIFO_MASKED);
  }

  unmask(port: number): boolean {
    const { words } = this.#domain.guest;
    for (;;) {
      const word = Atomics.load(words, this.#word(port));
      if ((word & FIFO_MASKED) === 0) return false;
      if ((word & FIFO_PENDING) !== 0) return true;
      if (Atomics.compareExchange(words, this.#word(port), word, word & ~FIFO_MASKED) === word) return false;
    }
  }
}
