/**
 * Frames that come from another server while the domain runs here already. One thread has the line to that server (later-thread.ts).
 * Whoever touches a frame that is not here yet says so in memory that all threads share, and sleeps until it has come:
 *
 *     word 0   the bell: counts what was asked for, and wakes that thread
 *     word 1   counts frames that came, and wakes those who wait
 *     word 2   1 if no more will come
 *     word 3…  what is asked for: a frame's number plus 1, or 0
 */
import type { AbsentFrames, Frame, FrameSource } from "@xenoserver/cpu";

const Word = { bell: 0, came: 1, lost: 2, asked: 3 } as const;
/** More threads than a domain has wait for a place to ask. */
const PLACES = 32;
/** A thread that slept so long looks again by itself. */
const NAP_MS = 500;

/** What a thread needs to fetch frames. */
export interface LaterFramesHandle {
  readonly words: SharedArrayBuffer;
}

export const newLaterFrames = (): LaterFramesHandle => ({
  words: new SharedArrayBuffer((Word.asked + PLACES) * Int32Array.BYTES_PER_ELEMENT),
});

export class LaterFrames implements FrameSource {
  readonly #words: Int32Array;
  readonly #absent: AbsentFrames;

  constructor({ words }: LaterFramesHandle, absent: AbsentFrames) {
    this.#words = new Int32Array(words);
    this.#absent = absent;
  }

  /** The thread that has the line puts the frame where it belongs. @throws Error  it will not come */
  read(frame: Frame): void {
    this.#ask(frame);
    while (!this.#absent.isPresent(frame)) this.waitFor(frame);
  }

  #ask(frame: Frame): void {
    const words = this.#words;
    for (let place = 0; ; place = (place + 1) % PLACES) {
      // Then nobody takes what is asked for, and there will be no place.
      this.#refuseLost(frame);
      if (Atomics.compareExchange(words, Word.asked + place, 0, frame + 1) === 0) break;
    }
    Atomics.add(words, Word.bell, 1);
    Atomics.notify(words, Word.bell);
  }

  waitFor(frame: Frame): void {
    const came = Atomics.load(this.#words, Word.came);
    if (this.#absent.isPresent(frame)) return;
    this.#refuseLost(frame);
    Atomics.wait(this.#words, Word.came, came, NAP_MS);
  }

  #refuseLost(frame: Frame): void {
    if (Atomics.load(this.#words, Word.lost) !== 0)
      throw new Error(`frame ${frame} did not come: the line to the server that the domain came from was cut`);
  }
}

/** The end of the thread that has the line. */
export class AskedFrames {
  readonly #words: Int32Array;

  constructor({ words }: LaterFramesHandle) {
    this.#words = new Int32Array(words);
  }

  /** What was asked for since the last call. */
  take(): Frame[] {
    const asked: Frame[] = [];
    for (let place = 0; place < PLACES; place++) {
      const frame = Atomics.exchange(this.#words, Word.asked + place, 0);
      if (frame !== 0) asked.push((frame - 1) as Frame);
    }
    return asked;
  }
  /** @param rung  how often the bell had been rung when nothing was asked for. Settles when it is rung again. */
  async rings(rung: number): Promise<void> {
    await Atomics.waitAsync(this.#words, Word.bell, rung).value;
  }
  get rung(): number {
    return Atomics.load(this.#words, Word.bell);
  }
  /** Some came. */
  tell(): void {
    Atomics.add(this.#words, Word.came, 1);
    Atomics.notify(this.#words, Word.came);
  }
  /** No more will come. */
  lose(): void {
    Atomics.store(this.#words, Word.lost, 1);
    this.tell();
  }
}
