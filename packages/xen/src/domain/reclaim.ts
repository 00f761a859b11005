/** Memory that the guest gave back goes back to the host, on the backends' thread. */
import { type DomainMemory, type Frame, kickVcpu } from "@xenoserver/cpu";
import { isResting } from "../vcpu/pause.ts";
import type { Domain } from "./domain.ts";
import { Field, VcpuField } from "./layout.ts";

/**
 * Gives the memory of frames that follow each other back to the host; they hold zeros then.
 * @throws Error  the host will not
 */
export type Discard = (first: Frame, count: number) => void;

/** A balloon gives back in many small steps; they are gathered for this long. */
const GATHER_MS = 50;
/** How often to look whether a vcpu has forgotten its translations. */
const LOOK_MS = 1;
/** Frames that are cleaned in one go, in which no vcpu can take or give any. */
const BATCH = 512;

/**
 * A frame passes through three steps (`FreeFrames`): it was given back; then every vcpu has forgotten the translations of that time, so that
 * none writes to it any more; then the host has its memory.
 */
export class FrameReclaimer {
  readonly #domain: Domain;
  readonly #memory: DomainMemory;
  readonly #open: () => Discard | undefined;
  readonly #onFailure: (error: Error) => void;
  #busy = false;
  #discard: Discard | undefined;
  #failed = false;

  /**
   * @param open       asked when a frame was given back for the first time; undefined if the host cannot take any
   * @param onFailure  told once why frames are not given back any more; the domain is as well without
   */
  constructor(
    domain: Domain,
    memory: DomainMemory,
    open: () => Discard | undefined,
    onFailure: (error: Error) => void,
  ) {
    this.#domain = domain;
    this.#memory = memory;
    this.#open = open;
    this.#onFailure = onFailure;
  }

  /** To be called whenever frames may have been given back. Cheap if there are none. */
  look(): void {
    if (this.#busy || this.#failed || !this.#memory.hasFreed) return;
    this.#busy = true;
    void this.#reclaim();
  }

  /** Until no frame is left that was given back. */
  async #reclaim(): Promise<void> {
    try {
      this.#discard ??= this.#open();
      if (this.#discard === undefined) this.#failed = true;
      while (!this.#failed && this.#memory.hasFreed && this.#lives()) {
        await sleep(GATHER_MS);
        this.#memory.free.setApart();
        // Whoever runs with an older number may hold translations to what was set apart.
        const generation = this.#domain.physmapChanged();
        for (const { id } of this.#domain.vcpus) await this.#hasForgotten(id, generation);
        while (this.#lives() && this.#memory.free.clean(BATCH, (frames) => this.#clean(frames))) await sleep(0);
      }
    } catch (error) {
      this.#failed = true;
      this.#onFailure(error as Error);
    }
    this.#busy = false;
  }

  async #hasForgotten(vcpuId: number, generation: number): Promise<void> {
    const record = this.#domain.vcpus[vcpuId]!;
    while (this.#lives() && !isResting(this.#domain, vcpuId)) {
      if (((record.get(VcpuField.physmapSeen) - generation) | 0) >= 0) return;
      kickVcpu(this.#memory, vcpuId);
      await sleep(LOOK_MS);
    }
  }

  #clean(frames: readonly Frame[]): void {
    for (let from = 0; from < frames.length; ) {
      let to = from + 1;
      while (to < frames.length && frames[to] === frames[from]! + (to - from)) to++;
      this.#discard!(frames[from]!, to - from);
      from = to;
    }
    for (const frame of frames) this.#memory.markWritten(frame);
  }

  /** What is left of a domain that has ended is the process's end. */
  #lives(): boolean {
    return this.#domain.get(Field.shutdown) === 0;
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
