/** How far a domain that moves has come, as it is measured while it is sent. */
import { PAGE_BYTES } from "@xenoserver/cpu";

export interface MigrationProgress {
  /** `handover` from the moment its disks take no more requests, just before its vcpus stand still. */
  readonly phase: "disks" | "memory" | "handover";
  /** Of memory: 1 for the round that sends all of it, 0 while disks are sent before that. */
  readonly round: number;
  /** Of everything. */
  readonly sentBytes: number;
  /** Of disks' blocks, with zeros that need not be sent. */
  readonly diskBytes: number;
  /** Bytes of disks that were there when it began. */
  readonly diskTotalBytes: number;
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

type Sent = Pick<MigrationProgress, "sentBytes" | "diskBytes" | "diskTotalBytes">;

/** Within a round, so often at most. */
const TELL_MS = 200;

export class MigrationMeter {
  readonly #sent: () => Sent;
  readonly #tell: (progress: MigrationProgress) => void;
  /** Of memory, that is under way. */
  #round = 0;
  #roundBegin = performance.now();
  #bytesAtBegin = 0;
  #dirtyFrames = 0;
  #rates: Rates = {};
  #toldAt = performance.now();

  constructor(sent: () => Sent, tell: (progress: MigrationProgress) => void) {
    this.#sent = sent;
    this.#tell = tell;
  }

  /** A round of disks was sent. */
  disksSent(): void {
    this.#say("disks");
  }
  beginMemory(): void {
    this.#beginRound(1);
  }
  #beginRound(round: number): void {
    this.#round = round;
    this.#roundBegin = performance.now();
    this.#bytesAtBegin = this.#sent().sentBytes;
  }

  /** Something was sent. */
  piece(): void {
    if (performance.now() - this.#toldAt >= TELL_MS) this.#say("memory");
  }

  /** A round has ended, and left so many frames for the next. */
  roundEnded(round: number, dirtyFrames: number): void {
    const seconds = (performance.now() - this.#roundBegin) / 1000;
    const bytesPerSecond = (this.#sent().sentBytes - this.#bytesAtBegin) / seconds;
    const dirtyBytes = dirtyFrames * PAGE_BYTES;
    this.#rates = {
      bytesPerSecond,
      dirtyBytesPerSecond: dirtyBytes / seconds,
      ...(bytesPerSecond > 0 && { expectedDowntimeMs: (dirtyBytes / bytesPerSecond) * 1000 }),
    };
    this.#round = round;
    this.#dirtyFrames = dirtyFrames;
    this.#say("memory");
    this.#beginRound(round + 1);
  }

  /** Its disks and vcpus are about to stand still, after the last round. */
  handover(): void {
    this.#say("handover", this.#round - 1);
  }

  #say(phase: MigrationProgress["phase"], round = this.#round): void {
    this.#toldAt = performance.now();
    this.#tell({ phase, round, ...this.#sent(), dirtyFrames: this.#dirtyFrames, ...this.#rates });
  }
}

/** How whoever wanted something that takes long keeps a hand on it. */
export interface Hand {
  /** Aborts when it is wanted no more; without effect once `onCommit` was called. */
  readonly signal?: AbortSignal;
  /** From here on it cannot be taken back. */
  readonly onCommit?: () => void;
}
