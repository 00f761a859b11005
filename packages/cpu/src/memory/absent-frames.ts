import type { Frame } from "./guest-memory.ts";

/** Where frames come from whose contents are not in memory yet. Each thread of a domain has its own. */
export interface FrameSource {
  /** Fills `into`, 4096 bytes, before it returns. @throws Error  it cannot */
  read(frame: Frame, into: Uint8Array): void;
  /** Waits a moment for a frame that another thread is having fetched; without it, that takes microseconds. @throws Error  it will not come */
  waitFor?(frame: Frame): void;
}

/** A frame's state, a byte in the domain's memory. */
const Presence = { present: 0, absent: 1, beingFetched: 2 } as const;

/**
 * Frames that are fetched when they are touched first: what restoring lazily and copies of a running domain stand on.
 *
 * A vcpu looks at a frame's state before it puts the frame into its TLB, host code before it uses the frame's bytes. Of several that
 * want a frame at once, one reads it and the others wait: nobody sees half a frame, and none that was written is overwritten.
 */
export class AbsentFrames {
  private readonly states: Uint8Array;
  private source: FrameSource | undefined;

  constructor(states: Uint8Array) {
    this.states = states;
  }

  /** Says from where this thread fetches. */
  fetchFrom(source: FrameSource): void {
    this.source = source;
  }
  /** Called before any vcpu runs. */
  markAbsent(frame: Frame): void {
    this.states[frame] = Presence.absent;
  }
  get count(): number {
    return this.states.reduce((sum, state) => sum + (state === Presence.present ? 0 : 1), 0);
  }

  /**
   * Settles that a frame's contents are there.
   * @param into  the frame's bytes
   * @throws Error of the source; the frame is absent still
   */
  fetch(frame: Frame, into: Uint8Array): void {
    const { states } = this;
    for (;;) {
      const was = Atomics.compareExchange(states, frame, Presence.absent, Presence.beingFetched);
      if (was === Presence.present) return;
      if (was === Presence.absent) break;
      this.source?.waitFor?.(frame);
    }
    try {
      if (this.source === undefined) throw new Error(`frame ${frame} is absent, expected a source to fetch it from`);
      this.source.read(frame, into);
    } catch (error) {
      Atomics.store(states, frame, Presence.absent);
      throw error;
    }
    Atomics.store(states, frame, Presence.present);
  }

  isPresent(frame: Frame): boolean {
    return Atomics.load(this.states, frame) === Presence.present;
  }

  /**
   * Puts in a frame's contents that came by themselves, or because a thread waits for them. One thread does that for all frames of a
   * domain, whose sources only wait.
   * @param into  the frame's bytes
   * @returns false if they were there
   */
  supply(frame: Frame, contents: Uint8Array, into: Uint8Array): boolean {
    if (this.isPresent(frame)) return false;
    Atomics.compareExchange(this.states, frame, Presence.absent, Presence.beingFetched);
    into.set(contents);
    Atomics.store(this.states, frame, Presence.present);
    return true;
  }
}
