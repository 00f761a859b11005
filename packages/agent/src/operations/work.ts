/** Something that takes a while, as whoever does it sees it. */
import type { Progress } from "../api/schema/index.ts";

export interface Work {
  /** Its own number; a domain that it makes has it as its `runId`. */
  readonly id: string;
  /** Aborts when somebody wants it no more. */
  readonly signal: AbortSignal;
  report(progress: Progress): void;
  /** From here on it cannot be cancelled. */
  commit(): void;
}

/** For who does not wait to be told, and cannot take it back. */
export const unwatched = (id: string): Work => ({
  id,
  signal: new AbortController().signal,
  report: () => {},
  commit: () => {},
});
