import type { Reach } from "../jit/region-compiler.ts";
import type { CodeKey, Heads } from "./code-index.ts";

export interface Trace {
  readonly start: number;
  readonly end: number;
  readonly record: number;
  readonly recordEnd: number;
  /** Where it is entered. */
  readonly key: CodeKey;
}
/** A region that is in use: its place in the table, and where it is entered. */
export interface InstalledRegion {
  readonly place: number;
  readonly reach: Reach;
  /** Of its pages; see `RegionPages`. */
  readonly list: number;
  /** By record. */
  readonly entries: Map<number, CodeKey>;
  isDropped: boolean;
}
/** Bytes of a page that a region was made from. */
export interface InstalledPiece {
  readonly start: number;
  readonly end: number;
  readonly region: InstalledRegion;
}

const NONE: readonly never[] = [];

/**
 * What was made of a frame's code. A kernel that patches itself while it boots asks for it thousands of times, of pages with hundreds of traces:
 * loops count, for iterators and closures leave an object for each.
 */
export class CodePage {
  /** Heads of each view that the page was decoded in, by `viewKey`. */
  readonly views = new Map<number, Heads>();
  readonly traces: Trace[] = [];
  readonly pieces: InstalledPiece[] = [];
  /** Whether stores into the frame are to be seen. */
  isWatched = true;
  /** How often all its code was overwritten. */
  timesEmptied = 0;

  /** Takes out the traces that hold any of these bytes, and those that are entered among their records. */
  takeTraces(start: number, end: number): readonly Trace[] {
    const { traces } = this;
    const changed: Trace[] = [];
    for (let n = 0; n < traces.length; n++) {
      const trace = traces[n];
      if (trace.start < end && start < trace.end) changed.push(trace);
    }
    if (changed.length === 0) return NONE;
    const taken: Trace[] = [];
    let kept = 0;
    for (let n = 0; n < traces.length; n++) {
      const trace = traces[n];
      if (isEnteredIn(changed, trace)) taken.push(trace);
      else traces[kept++] = trace;
    }
    traces.length = kept;
    return taken;
  }

  /** Forgets pieces whose region is in use no more. */
  forgetDropped(): void {
    const { pieces } = this;
    let kept = 0;
    for (let n = 0; n < pieces.length; n++) {
      const piece = pieces[n];
      if (!piece.region.isDropped) pieces[kept++] = piece;
    }
    pieces.length = kept;
  }
}

function isEnteredIn(changed: readonly Trace[], { record }: Trace): boolean {
  for (let n = 0; n < changed.length; n++) {
    const { record: first, recordEnd } = changed[n];
    if (first <= record && record < recordEnd) return true;
  }
  return false;
}
