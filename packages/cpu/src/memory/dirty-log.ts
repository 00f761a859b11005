import { DirtyControl } from "../state/layout.ts";
import type { DomainMemory } from "./domain-memory.ts";
import type { Frame } from "./guest-memory.ts";
import { kickVcpu } from "./kick.ts";

/** How long to wait for a vcpu before it is kicked again. */
const PATIENCE_MS = 2;

/**
 * Which frames were written, round by round; what live migration and snapshots stand on.
 *
 * While logging is on, a vcpu may store into a page directly only after the page's first store of the round took the slow path,
 * which notes it. Host code notes a frame in `markWritten`, after it stored.
 *
 * A round ends in three steps: the notes are taken and cleared; the round's number changes; every vcpu that runs gives up its
 * direct ways to write, and says so. A store between the first and the last step is into a page whose note was taken, or noted
 * anew. So whoever copies the frames after `collect` has all that the notes stand for: nothing is lost, something may be told twice.
 */
export class DirtyLog {
  private readonly memory: DomainMemory;
  private readonly words: Int32Array;
  private readonly notes: Uint8Array;
  private readonly control: number;

  constructor(memory: DomainMemory) {
    this.memory = memory;
    this.words = new Int32Array(memory.memory.buffer);
    this.notes = new Uint8Array(memory.memory.buffer, memory.layout.dirtyMap, memory.frameCount);
    this.control = memory.layout.dirtyControl >>> 2;
  }

  /**
   * Begins to log. Once this is settled, every store is noted.
   * @param isResting whether a vcpu waits and will look at the round before it runs on; asked after the round has changed
   */
  async start(isResting: (vcpuId: number) => boolean): Promise<void> {
    Atomics.store(this.words, this.control + DirtyControl.enabled, 1);
    await this.collect(isResting);
  }
  /** Ends logging. Pages become directly writable again as they are written. */
  stop(): void {
    Atomics.store(this.words, this.control + DirtyControl.enabled, 0);
  }

  /** Ends a round: the frames that were written in it, ascending. Copy them after this is settled. */
  async collect(isResting: (vcpuId: number) => boolean): Promise<Frame[]> {
    const frames = this.take();
    const round = (Atomics.add(this.words, this.control + DirtyControl.round, 1) + 1) | 0;
    for (let id = 0; id < this.memory.layout.vcpuCount; id++) await this.waitFor(id, round, isResting);
    return frames;
  }

  private take(): Frame[] {
    const { notes } = this;
    const frames: Frame[] = [];
    for (let at = notes.indexOf(1); at >= 0; at = notes.indexOf(1, at + 1)) {
      Atomics.store(notes, at, 0);
      frames.push(at as Frame);
    }
    return frames;
  }

  private async waitFor(id: number, round: number, isResting: (vcpuId: number) => boolean): Promise<void> {
    const word = this.control + DirtyControl.seen + id;
    for (;;) {
      const seen = Atomics.load(this.words, word);
      if (seen === round || isResting(id)) return;
      kickVcpu(this.memory, id);
      await Atomics.waitAsync(this.words, word, seen, PATIENCE_MS).value;
    }
  }
}

/** A vcpu's side: gives up its direct ways to write when a new round has begun. */
export class DirtyRounds {
  private readonly words: Int32Array;
  private readonly round: number;
  private readonly seen: number;
  private known = 0;

  constructor(memory: DomainMemory, vcpuId: number) {
    this.words = new Int32Array(memory.memory.buffer);
    const control = memory.layout.dirtyControl >>> 2;
    this.round = control + DirtyControl.round;
    this.seen = control + DirtyControl.seen + vcpuId;
  }

  /** To be called before the vcpu runs: `giveUp` if a round has begun since the last call. */
  look(giveUp: () => void): void {
    const round = Atomics.load(this.words, this.round);
    if (round === this.known) return;
    this.known = round;
    giveUp();
    Atomics.store(this.words, this.seen, round);
    Atomics.notify(this.words, this.seen);
  }
}
