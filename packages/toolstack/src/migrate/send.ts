/**
 * A domain that moves while it runs: its memory is sent in rounds, each with what was written during the one before, until little is
 * left; then it stands still, and the rest follows.
 *
 *     here                                  there
 *     configuration, with an offer     →
 *                                      ←    want …     chunks of images and files that are not there
 *     chunk, file …                    →
 *                                      ←    placed     and which disks are to be sent
 *     blocks …, frames …, sync         →               disks are flushed, devices looked at
 *                                      ←    synced
 *     the last blocks and frames, end  →
 *                                      ←    ready      all is loaded
 *     commit                           →               its disks and ports are closed here
 *                                      ←    running    or `refused`
 *
 * With post-copy, memory is sent once, and what was written meanwhile follows when the domain runs there:
 *
 *     later, end                       →               instead of the last frames
 *     frames …                         ←    fetch …    from then on, whenever some are asked for
 *     frames …                         →               behind `running`: all others
 *                                      ←    arrived
 *
 * Until `commit` was sent the domain is here, and runs on if anything goes wrong. From then on it must not run here again unless it
 * is known not to run there: a link that is cut in between leaves it standing. With post-copy that is so until `arrived`.
 */
import type { Duplex } from "node:stream";
import { DirtyLog, type DomainMemory } from "@xenoserver/cpu";
import type { Frame } from "@xenoserver/cpu/memory/guest-memory.ts";
import { SaveError } from "../save/error.ts";
import { RecordType, RecordWriter, type SavedRecord, Sync } from "../save/records.ts";
import { json, type SavedHeader, type SavedParts, usedFrames, writeFrames, writeParts } from "../save/saved-domain.ts";
import { ANSWER_MS, Answers, Refused } from "./answers.ts";
import { LaterSender } from "./later/send-later.ts";
import type { Leaving } from "./leaving.ts";
import { type Hand, MigrationMeter, type MigrationProgress } from "./progress.ts";
import { DiskSender } from "./send-disks.ts";

/** The domain, as whoever sends it needs it. */
export interface MovingDomain {
  readonly memory: DomainMemory;
  /** What it is, before it stands still. */
  readonly header: SavedHeader;
  /** Whether a vcpu waits, and looks at the dirty log's round before it runs on. */
  isResting(vcpuId: number): boolean;
  /** Has what it wrote lie on its disks, so that little is left to be done when it stands still. */
  settle(): Promise<void>;
  /**
   * Lets disks take no more requests, and ends those in flight, so that nothing is written any more; the guest runs on, and waits if it
   * needs a disk. `resume` lets them go on.
   */
  holdDisks(): Promise<void>;
  /** Does what `halt` does to tell its state, for nothing. */
  rehearse(): void;
  /** Makes it stand still, with nothing in flight. */
  halt(): Promise<SavedParts>;
  /** Lets the other server have its devices. */
  release(): Promise<void>;
  /** What it could take along; its disks are watched from now on. */
  leave(): Promise<Leaving>;
  /** Lets it run on here. @throws Error  its devices cannot be had again; it stands still */
  resume(): Promise<void>;
}

export interface MigrationReport {
  readonly rounds: number;
  /** Of everything. */
  readonly sentBytes: number;
  readonly diskBytes: number;
  /** From the first byte to the other side's word that the domain runs. */
  readonly totalMs: number;
  /** From the moment the vcpus were asked to stand still until they ran there, as far as that word tells. */
  readonly downtimeMs: number;
  readonly downtime: Downtime;
  /** Sentences on what went along and could not be removed here. */
  readonly leftHere: readonly string[];
  /** With post-copy: frames that came when the domain ran there, and those of them that it had to wait for. */
  readonly laterFrames?: number;
  readonly fetchedFrames?: number;
}

/** The link was cut when the domain may run there already: it stands still here, and somebody must find out. */
export class MigrationInDoubt extends SaveError {}

/** The link was cut when the domain ran there without all of its memory: it stands still here as it was when it left. */
export class MigrationTorn extends SaveError {}

/** So few frames are sent faster than another round would take. */
const FEW_FRAMES = 256;
const MAX_ROUNDS = 12;
/** Of the last rounds, which are short: each waits for the other side. */
const VERY_FEW_FRAMES = 64;
const MAX_QUICK_ROUNDS = 8;
/** A round that leaves more than this share of the last one's is not worth another: the guest writes as fast as is sent. */
const SHRINKING = 0.8;

const CANCELLED = "it was cancelled";
/** Of a round, between two looks at whether it was cancelled. */
const FRAMES_PER_PIECE = 1024;

/**
 * @throws SaveError         the domain runs on here; also if the hand's signal aborts before the commit
 * @throws MigrationInDoubt  it stands still here
 * @throws MigrationTorn     it stands still here, and runs there until it misses something
 */
export async function sendDomain(
  link: Duplex,
  domain: MovingDomain,
  onProgress: (progress: MigrationProgress) => void = () => {},
  hand: Hand = {},
  postCopy = false,
): Promise<MigrationReport> {
  const sending = new Sending(link, domain, onProgress, hand, postCopy);
  try {
    return await sending.run();
  } catch (error) {
    throw await sending.failed(error as Error);
  } finally {
    sending.close();
  }
}

class Sending {
  readonly #link: Duplex;
  readonly #domain: MovingDomain;
  readonly #log: DirtyLog;
  readonly #writer: RecordWriter;
  readonly #answers: Answers;
  readonly #onProgress: (progress: MigrationProgress) => void;
  readonly #hand: Hand;
  /** A link that takes nothing would hold up whoever waits for it. */
  readonly #abandon: () => void;
  #leaving: Leaving | undefined;
  #map: Int32Array<ArrayBuffer> | undefined;
  #halted = false;
  #held = false;
  #committed = false;
  readonly #postCopy: boolean;
  #later: LaterSender | undefined;
  /** The domain runs there, without some of its memory. */
  #isApart = false;

  constructor(
    link: Duplex,
    domain: MovingDomain,
    onProgress: (progress: MigrationProgress) => void,
    hand: Hand,
    postCopy: boolean,
  ) {
    this.#postCopy = postCopy;
    this.#link = link;
    this.#hand = hand;
    this.#abandon = () => void link.destroy(new Error(CANCELLED));
    hand.signal?.addEventListener("abort", this.#abandon);
    this.#domain = domain;
    this.#onProgress = onProgress;
    this.#log = new DirtyLog(domain.memory);
    this.#writer = new RecordWriter(link, false, ANSWER_MS);
    this.#answers = new Answers(link);
  }

  async run(): Promise<MigrationReport> {
    const begin = performance.now();
    const { memory } = this.#domain;
    const { signal, onCommit } = this.#hand;
    signal?.throwIfAborted();
    const leaving = (this.#leaving = await this.#domain.leave());
    const postCopy = this.#postCopy && { postCopy: true };
    await this.#writer.write(RecordType.config, json({ ...this.#domain.header, offer: leaving.offer, ...postCopy }));
    await leaving.serve(this.#answers, this.#writer);
    const disks = new DiskSender(this.#writer, leaving.taken);
    const sent = () => ({ sentBytes: this.#writer.bytes, diskBytes: disks.bytes, diskTotalBytes: disks.usedBytes });
    const meter = new MigrationMeter(sent, this.#onProgress);
    const { rounds, rest } = await this.#sendWhileItRuns(disks, meter);

    const still = new Stopwatch();
    this.#halted = true;
    const parts = await this.#domain.halt();
    still.lap("haltMs");
    await this.#writer.write(RecordType.clock, json(parts.header));
    await disks.sendWritten();
    const last = [...new Set([...rest, ...(await this.#dirtyFrames())])];
    if (this.#postCopy) {
      this.#later = new LaterSender(this.#writer, this.#answers, memory, last);
      await LaterSender.announce(this.#writer, last);
    } else await writeFrames(this.#writer, memory, last);
    await writeParts(this.#writer, parts, this.#newMap());
    await this.#writer.write(RecordType.end, new Uint8Array());
    still.lap("writeMs");
    await this.#answer(RecordType.ready);
    still.lap("readyMs");
    await this.#domain.release();
    still.lap("releaseMs");
    signal?.throwIfAborted();
    this.#committed = true;
    signal?.removeEventListener("abort", this.#abandon);
    onCommit?.();
    await this.#writer.write(RecordType.commit, new Uint8Array());
    const running = await this.#answer(RecordType.running);
    still.lap("startMs", ranBefore(running.payload));
    this.#isApart = this.#later !== undefined;
    await this.#later?.sendAll(() => meter.piece());
    this.#isApart = false;
    const totalMs = performance.now() - begin;
    const leftHere = await leaving.remove();
    const [sentBytes, diskBytes] = [this.#writer.bytes, disks.bytes];
    const later = this.#later && { laterFrames: this.#later.count, fetchedFrames: this.#later.fetched };
    const downtime = { downtimeMs: still.totalMs, downtime: still.laps };
    return { rounds, sentBytes, diskBytes, totalMs, ...downtime, leftHere, ...later };
  }

  /** Waits for an answer, and serves what is asked for meanwhile. @throws SaveError */
  #answer(wanted: number): Promise<SavedRecord> {
    return this.#later?.next(wanted) ?? this.#answers.next(wanted);
  }

  /** @returns the frames that are still to be sent */
  async #sendWhileItRuns(
    disks: DiskSender,
    meter: MigrationMeter,
  ): Promise<{ rounds: number; rest: readonly Frame[] }> {
    const { memory } = this.#domain;
    const { signal } = this.#hand;
    await disks.sendRounds(() => {
      signal?.throwIfAborted();
      meter.disksSent();
    });
    meter.beginMemory();
    const send = async (frames: readonly Frame[]): Promise<void> => {
      for (let from = 0; from < frames.length; from += FRAMES_PER_PIECE) {
        signal?.throwIfAborted();
        await writeFrames(this.#writer, memory, frames.slice(from, from + FRAMES_PER_PIECE));
        meter.piece();
      }
      await disks.sendWritten();
    };
    const onRound = (round: number, dirtyFrames: number): void => meter.roundEnded(round, dirtyFrames);
    const mostRounds = this.#postCopy ? 1 : MAX_ROUNDS;
    const rounds = await sendRounds(this.#log, this.#domain, send, onRound, mostRounds);
    // What the other side has not caught up with when the domain stands still, it waits for.
    await this.#domain.settle();
    if (!this.#postCopy) await writeFrames(this.#writer, memory, rounds.left);
    await disks.sendWritten();
    await this.#catchUp(Sync.flushed);
    // Code that runs for the first time takes many times as long as later: it is not to do so in the standstill.
    this.#domain.rehearse();
    const map = this.#newMap();
    if (map !== undefined) await this.#writer.write(RecordType.map, new Uint8Array(map.buffer));
    signal?.throwIfAborted();
    meter.handover();
    this.#held = true;
    await this.#domain.holdDisks();
    await this.#domain.settle();
    await disks.sendWritten();
    await this.#catchUp(Sync.flushed);
    return { rounds: rounds.count, rest: this.#postCopy ? rounds.left : await this.#sendQuickly() };
  }

  /** Rounds of what was written while the other side took in the one before, which is ever less. @returns what is left */
  async #sendQuickly(): Promise<readonly Frame[]> {
    for (let [n, before] = [0, Number.POSITIVE_INFINITY]; ; n++) {
      const left = await this.#dirtyFrames();
      if (left.length <= VERY_FEW_FRAMES || n === MAX_QUICK_ROUNDS || left.length > before * SHRINKING) return left;
      before = left.length;
      await writeFrames(this.#writer, this.#domain.memory, left);
      await this.#catchUp(Sync.loaded);
    }
  }

  /** The physical map, if it is not the one that was sent last. */
  #newMap(): Int32Array<ArrayBuffer> | undefined {
    const map = this.#domain.memory.saveMap();
    if (this.#map !== undefined && Buffer.from(this.#map.buffer).equals(Buffer.from(map.buffer))) return undefined;
    this.#map = map;
    return map;
  }

  async #catchUp(what: Sync): Promise<void> {
    await this.#writer.write(RecordType.sync, Uint8Array.of(what));
    await this.#answers.next(RecordType.synced);
  }

  #dirtyFrames(): Promise<Frame[]> {
    return this.#log.collect((vcpuId) => this.#domain.isResting(vcpuId));
  }

  /** @returns what is to be thrown */
  async failed(error: Error): Promise<SaveError> {
    const isCancelled = this.#hand.signal?.aborted === true && !this.#committed;
    const reason = `the domain could not be moved: ${isCancelled ? CANCELLED : error.message}`;
    if (this.#isApart) {
      const missing = `${this.#later?.left ?? 0} frames of it are here`;
      return new MigrationTorn(`${reason}; it runs there, but ${missing}, where it stands still as it left`, {
        cause: error,
      });
    }
    if (this.#committed && !(error instanceof Refused))
      return new MigrationInDoubt(`${reason}; it may run there, and is paused here`, { cause: error });
    await this.#leaving?.stay();
    if (!this.#halted && !this.#held) return new SaveError(reason, { cause: error });
    try {
      await this.#domain.resume();
    } catch (cause) {
      return new MigrationInDoubt(`${reason}; it is paused here, because ${(cause as Error).message}`, { cause });
    }
    return new SaveError(reason, { cause: error });
  }

  close(): void {
    this.#hand.signal?.removeEventListener("abort", this.#abandon);
    this.#log.stop();
    this.#link.destroy();
  }
}

/** Where a standstill's time goes. */
export interface Downtime {
  /** Until the vcpus stand still and devices have nothing in flight. */
  readonly haltMs: number;
  /** Until the rest is written. */
  readonly writeMs: number;
  /** Until the other side has loaded that. */
  readonly readyMs: number;
  /** Until disks are closed and ports let go here. */
  readonly releaseMs: number;
  /** Until the domain runs there: its word of that comes later, when the disks that came are there for good. */
  readonly startMs: number;
}

/** How long the domain ran there before that was told. */
function ranBefore(payload: Buffer): number {
  try {
    const { ranMs } = JSON.parse(payload.toString()) as { ranMs?: unknown };
    return typeof ranMs === "number" && ranMs >= 0 ? ranMs : 0;
  } catch {
    return 0;
  }
}

class Stopwatch {
  readonly #begin = performance.now();
  readonly #laps: { -readonly [K in keyof Downtime]?: number } = {};
  #last = this.#begin;

  /** @param agoMs  how long ago it ended */
  lap(name: keyof Downtime, agoMs = 0): void {
    const now = Math.max(this.#last, performance.now() - agoMs);
    this.#laps[name] = now - this.#last;
    this.#last = now;
  }
  get totalMs(): number {
    return this.#last - this.#begin;
  }
  get laps(): Downtime {
    return this.#laps as Downtime;
  }
}

/**
 * Copies a running domain's memory in rounds, until little was written during the last.
 * @returns how many rounds there were, and the frames that are still to be copied
 */
export async function sendRounds(
  log: DirtyLog,
  { memory, isResting }: Pick<MovingDomain, "memory" | "isResting">,
  send: (frames: readonly Frame[]) => Promise<void>,
  onRound: (round: number, dirtyFrames: number) => void = () => {},
  mostRounds = MAX_ROUNDS,
): Promise<{ readonly count: number; readonly left: Frame[] }> {
  await log.start(isResting);
  for await (const frames of usedFrames(memory)) await send(frames);
  let before = Number.POSITIVE_INFINITY;
  for (let count = 1; ; count++) {
    const left = await log.collect(isResting);
    onRound(count, left.length);
    if (left.length <= FEW_FRAMES || count === mostRounds || left.length > before * SHRINKING) return { count, left };
    before = left.length;
    await send(left);
  }
}
