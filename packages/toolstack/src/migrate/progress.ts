/** How far a domain that moves has come, as it is measured while it is sent. */
import { PAGE_BYTES } from "@xenoserver/cpu";

export interface MigrationProgress {
  /** `handover` from the moment its vcpus stand still. */
  readonly phase: "memory" | "handover";
  /** 1 for the round that sends all memory. */
  readonly round: number;
  readonly sentBytes: number;
  /** Frames that were written during the last whole round; 0 in the first. */
  readonly dirtyFrames: number;
  /** Of the last whole round: what went over the link. */
  readonly bytesPerSecond?: number;
  /** Of the last whole round: frames that were written anew, as bytes. */
  readonly dirtyBytesPerSecond?: number;
  /** If it stood still now: the time to send the dirty frames at the last round's speed. Devices and the other side take more. */
  readonly expectedDowntimeMs?: number;
}

type Rates = Pick<MigrationProgress, "bytesPerSecond" | "dirtyBytesPerSecond" | "expectedDowntimeMs">;

/** Within a round, so often at most. */
const TELL_MS = 200;

export class MigrationMeter {
  readonly #sentBytes: () => number;
  readonly #tell: (progress: MigrationProgress) => void;
  /** That is under way. */
  #round = 1;
  #roundBegin = performance.now();
  #bytesAtBegin = 0;
  #dirtyFrames = 0;
  #rates: Rates = {};
  #toldAt = performance.now();

  constructor(sentBytes: () => number, tell: (progress: MigrationProgress) => void) {
    this.#sentBytes = sentBytes;
    this.#tell = tell;
  }

  /** Something was sent. */
  piece(): void {
    if (performance.now() - this.#toldAt >= TELL_MS) this.#say("memory");
  }

  /** A round has ended, and left so many frames for the next. */
  roundEnded(round: number, dirtyFrames: number): void {
    const seconds = (performance.now() - this.#roundBegin) / 1000;
    const bytesPerSecond = (this.#sentBytes() - this.#bytesAtBegin) / seconds;
    const dirtyBytes = dirtyFrames * PAGE_BYTES;
    this.#rates = {
      bytesPerSecond,
      dirtyBytesPerSecond: dirtyBytes / seconds,
      ...(bytesPerSecond > 0 && { expectedDowntimeMs: (dirtyBytes / bytesPerSecond) * 1000 }),
    };
    this.#round = round;
    this.#dirtyFrames = dirtyFrames;
    this.#say("memory");
    this.#round = round + 1;
    this.#roundBegin = performance.now();
    this.#bytesAtBegin = this.#sentBytes();
  }

  /** Its vcpus are about to stand still, after the last round. */
  handover(): void {
    this.#say("handover", this.#round - 1);
  }

  #say(phase: MigrationProgress["phase"], round = this.#round): void {
    this.#toldAt = performance.now();
    this.#tell({ phase, round, sentBytes: this.#sentBytes(), dirtyFrames: this.#dirtyFrames, ...this.#rates });
  }
}

/** How whoever wanted something that takes long keeps a hand on it. */
export interface Hand {
  /** Aborts when it is wanted no more; without effect once `onCommit` was called. */
  readonly signal?: AbortSignal;
  /** From here on it cannot be taken back. */
  readonly onCommit?: () => void;
}
