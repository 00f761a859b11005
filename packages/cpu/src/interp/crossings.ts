import { PAGE_BYTES } from "../engine.ts";
import type { CodeKey } from "./code-index.ts";

/** An instruction that goes on in the next page. */
export interface Crossing {
  readonly frame: number;
  readonly nextFrame: number;
  /** Of its first byte, in its page. */
  readonly offset: number;
  /** See `viewKey`. */
  readonly view: number;
  readonly record: number;
  readonly key: CodeKey;
}
/** Longer than any instruction: bytes of the next page that one may have. */
export const NEXT_BYTES = 16;

const NONE: readonly never[] = [];

interface Range {
  readonly start: number;
  readonly end: number;
}
/** The bytes of a frame that an instruction has; both of its pages may be the same one. */
function rangesIn(frame: number, crossing: Crossing): Range[] {
  const ranges: Range[] = [];
  if (crossing.frame === frame) ranges.push({ start: crossing.offset, end: PAGE_BYTES });
  if (crossing.nextFrame === frame) ranges.push({ start: 0, end: NEXT_BYTES });
  return ranges;
}

/** Decoded instructions that go on in the next page, to be found by where they begin and by either of their frames. */
export class Crossings {
  readonly #byPlace = new Map<number, Crossing>();
  readonly #byFrame = new Map<number, Set<Crossing>>();

  at(frame: number, offset: number): Crossing | undefined {
    return this.#byPlace.get(frame * PAGE_BYTES + offset);
  }
  /** In the place of one that begins there. */
  put(crossing: Crossing): void {
    const { frame, nextFrame, offset } = crossing;
    const before = this.at(frame, offset);
    if (before !== undefined) this.#remove(before);
    this.#byPlace.set(frame * PAGE_BYTES + offset, crossing);
    for (const either of [frame, nextFrame]) {
      const all = this.#byFrame.get(either);
      if (all === undefined) this.#byFrame.set(either, new Set([crossing]));
      else all.add(crossing);
    }
  }

  /** Takes out those that have any of these bytes of a frame. */
  take(frame: number, start: number, end: number): readonly Crossing[] {
    const all = this.#byFrame.get(frame);
    if (all === undefined) return NONE;
    const taken = [...all].filter((crossing) =>
      rangesIn(frame, crossing).some((range) => range.start < end && start < range.end),
    );
    for (const crossing of taken) this.#remove(crossing);
    return taken;
  }
  #remove(crossing: Crossing): void {
    const { frame, nextFrame, offset } = crossing;
    this.#byPlace.delete(frame * PAGE_BYTES + offset);
    for (const either of [frame, nextFrame]) {
      const all = this.#byFrame.get(either);
      all?.delete(crossing);
      if (all?.size === 0) this.#byFrame.delete(either);
    }
  }

  has(frame: number): boolean {
    return this.#byFrame.has(frame);
  }
  /** The bytes of a frame that such instructions have. */
  rangesOf(frame: number): readonly Range[] {
    const all = this.#byFrame.get(frame);
    return all === undefined ? NONE : [...all].flatMap((crossing) => rangesIn(frame, crossing));
  }

  clear(): void {
    this.#byPlace.clear();
    this.#byFrame.clear();
  }
}
