import type { DomainMemory } from "../memory/domain-memory.ts";
import { State } from "../state/layout.ts";
import { hiOf, type Machine } from "./machine.ts";

/** (vb, lo, hi) → 0 after a fault; otherwise the guest-physical address is in the state. */
type TranslateCode = (vb: number, lo: number, hi: number) => number;

/** Finds the frames that a vcpu's instructions come from, at its privilege. */
export class CodeFrames {
  readonly #machine: Machine;
  readonly #translate: TranslateCode;
  readonly #memory: DomainMemory;

  constructor(machine: Machine, translate: TranslateCode, memory: DomainMemory) {
    this.#machine = machine;
    this.#translate = translate;
    this.#memory = memory;
  }

  /** @returns the frame of a linear address; −1 if page tables lead to no memory, undefined if they lead nowhere: the fault is in the state then */
  frameOf(va: number): number | undefined {
    const m = this.#machine;
    if (this.#translate(m.vb, va >>> 0, hiOf(va)) === 0) return undefined;
    const gfn = ((m.get32(State.result + 4) & 0xfffff) * 2 ** 32 + (m.get32(State.result) >>> 0)) / 4096;
    return this.#memory.frameAt(Math.floor(gfn) as never);
  }
  /** The same for who only wants to look; undefined if there is none. */
  knownFrameOf(va: number): number | undefined {
    const frame = this.frameOf(va);
    return frame === undefined || frame < 0 ? undefined : frame;
  }
}
