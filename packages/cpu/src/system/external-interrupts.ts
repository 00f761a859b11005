import type { InterruptSource } from "../engine.ts";
import { Slot, State } from "../state/layout.ts";
import { GuestFault, Vector } from "./faults.ts";
import { deliver } from "./interrupts.ts";
import type { Machine } from "./machine.ts";

/** What comes to a vcpu from outside: interrupts when it takes them, and the one that cannot be masked. */
export class ExternalInterrupts {
  source: InterruptSource = { hasPending: () => false, acknowledge: () => -1 };
  readonly #machine: Machine;
  readonly #fault: (fault: GuestFault) => void;

  /** @param fault  delivers what the delivery of an interrupt runs into */
  constructor(machine: Machine, fault: (fault: GuestFault) => void) {
    this.#machine = machine;
    this.#fault = fault;
  }

  /** Delivers what is there and may come now, between two instructions. */
  take(): void {
    const m = this.#machine;
    if (this.source.hasNmi && m.get32(State.nmiBlocked) === 0) {
      this.source.takeNmi?.();
      m.set32(State.nmiBlocked, 1);
      return this.#deliver(Vector.nmi);
    }
    const pending = this.source.hasPending();
    m.set32(State.interruptWaits, pending && !m.interruptsEnabled ? 1 : 0);
    if (!pending || !m.interruptsEnabled) return;
    const vector = this.source.acknowledge();
    if (vector >= 0) this.#deliver(vector);
  }

  #deliver(vector: number): void {
    const m = this.#machine;
    try {
      deliver(m, vector, "external");
      m.setAddress(Slot.rip, m.nextRip);
    } catch (thrown) {
      if (!(thrown instanceof GuestFault)) throw thrown;
      this.#fault(thrown);
    }
  }
}
