import type { Frame } from "./guest-memory.ts";
import { locked } from "./lock.ts";

/** Heads of the lists of free frames, as frame + 1, and the lock over them: words of the memory's control buffer. */
export const FREE_FRAMES_WORDS = 4;
const Head = { lock: 0, given: 1, unseen: 2, clean: 3 } as const;

/**
 * The frames that were in use and are not now, on three lists:
 *
 * - `given`: a vcpu may still have a translation to it, and it holds what its owner left.
 * - `unseen`: no vcpu will have one once all have forgotten those of the time when it was put here.
 * - `clean`: nobody writes to it, and it holds nothing but zeros. The host need not keep memory for it.
 *
 * The links lie beside the frames, not in them: a vcpu that writes through an old translation must not reach them, and a frame
 * that the host took memory back from cannot hold one.
 */
export class FreeFrames {
  readonly #control: Int32Array;
  readonly #base: number;
  readonly #links: Int32Array;

  /**
   * @param control  with `FREE_FRAMES_WORDS` words from `base` on
   * @param links    a word for each frame
   */
  constructor(control: Int32Array, base: number, links: Int32Array) {
    this.#control = control;
    this.#base = base;
    this.#links = links;
  }

  /** None is free any more. */
  forget(): void {
    this.#locked(() => {
      for (const list of [Head.given, Head.unseen, Head.clean]) this.#control[this.#base + list] = 0;
    });
  }

  /** A frame, clean if there is one; undefined if none is free. */
  take(): Frame | undefined {
    return this.#locked(() => this.#pop(Head.clean) ?? this.#pop(Head.unseen) ?? this.#pop(Head.given));
  }

  give(frame: Frame): void {
    this.#locked(() => this.#push(Head.given, frame));
  }
  /** True if a frame was given that was not set apart yet. Cheap, and without the lock. */
  get hasGiven(): boolean {
    return Atomics.load(this.#control, this.#base + Head.given) !== 0;
  }

  /** Sets those apart that were given; what is given from now on is not among them. */
  setApart(): void {
    this.#locked(() => {
      for (let frame = this.#pop(Head.given); frame !== undefined; frame = this.#pop(Head.given))
        this.#push(Head.unseen, frame);
    });
  }
  /**
   * Makes some of those clean that were set apart.
   * @param clean  is given frames, ascending, that nobody else has meanwhile
   * @returns      whether more are left
   */
  clean(atMost: number, clean: (frames: readonly Frame[]) => void): boolean {
    return this.#locked(() => {
      const frames: Frame[] = [];
      while (frames.length < atMost) {
        const frame = this.#pop(Head.unseen);
        if (frame === undefined) break;
        frames.push(frame);
      }
      clean(frames.sort((a, b) => a - b));
      for (const frame of frames) this.#push(Head.clean, frame);
      return this.#control[this.#base + Head.unseen] !== 0;
    });
  }

  /** All of them, in the order in which they would be used again. */
  list(): Frame[] {
    return this.#locked(() => {
      const frames: Frame[] = [];
      for (const list of [Head.clean, Head.unseen, Head.given])
        for (let link = this.#control[this.#base + list]; link !== 0; link = this.#links[link - 1])
          frames.push((link - 1) as Frame);
      return frames;
    });
  }

  #pop(list: number): Frame | undefined {
    const link = this.#control[this.#base + list];
    if (link === 0) return undefined;
    // Without the lock, `hasGiven` looks at it.
    Atomics.store(this.#control, this.#base + list, this.#links[link - 1]);
    return (link - 1) as Frame;
  }
  #push(list: number, frame: Frame): void {
    this.#links[frame] = this.#control[this.#base + list];
    Atomics.store(this.#control, this.#base + list, frame + 1);
  }
  #locked<T>(body: () => T): T {
    return locked(this.#control, this.#base + Head.lock, body);
  }
}
