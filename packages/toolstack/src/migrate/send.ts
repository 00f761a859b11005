/**
 * A domain that moves while it runs: its memory is sent in rounds, each with what was written during the one before, until little is
 * left; then it stands still, and the rest follows.
 *
 *     here                                  there
 *     configuration, frames … , end    →
 *                                      ←    ready      all is loaded, and its devices could be had
 *     commit                           →               its disks and ports are closed here
 *                                      ←    running    or `refused`
 *
 * Until `commit` was sent the domain is here, and runs on if anything goes wrong. From then on it must not run here again unless it
 * is known not to run there: a link that is cut in between leaves it standing.
 */
import type { Duplex } from "node:stream";
import { DirtyLog, type DomainMemory } from "@xenoserver/cpu";
import type { Frame } from "@xenoserver/cpu/memory/guest-memory.ts";
import { SaveError } from "../save/error.ts";
import { RecordReader, RecordType, RecordWriter } from "../save/records.ts";
import { json, type SavedHeader, type SavedParts, usedFrames, writeFrames, writeParts } from "../save/saved-domain.ts";
import { type Hand, MigrationMeter, type MigrationProgress } from "./progress.ts";

/** The domain, as whoever sends it needs it. */
export interface MovingDomain {
  readonly memory: DomainMemory;
  /** What it is, before it stands still. */
  readonly header: SavedHeader;
  /** Whether a vcpu waits, and looks at the dirty log's round before it runs on. */
  isResting(vcpuId: number): boolean;
  /** Has what it wrote lie on its disks, so that little is left to be done when it stands still. */
  settle(): Promise<void>;
  /** Makes it stand still, with nothing in flight. */
  halt(): Promise<SavedParts>;
  /** Lets the other server have its devices. */
  release(): Promise<void>;
  /** Lets it run on here. @throws Error  its devices cannot be had again; it stands still */
  resume(): Promise<void>;
}

export interface MigrationReport {
  readonly rounds: number;
  readonly sentBytes: number;
  /** From the first byte to the other side's word that the domain runs. */
  readonly totalMs: number;
  /** From the moment the vcpus were asked to stand still to that word. */
  readonly downtimeMs: number;
}

/** How long the other server may take to load what it has, or to open disks. */
const ANSWER_MS = 30_000;

/** The other server will not run the domain, and says why. */
class Refused extends SaveError {}

/** The link was cut when the domain may run there already: it stands still here, and somebody must find out. */
export class MigrationInDoubt extends SaveError {}

const CANCELLED = "it was cancelled";
/** So few frames are sent faster than another round would take. */
const FEW_FRAMES = 256;
const MAX_ROUNDS = 12;
/** A round that leaves more than this share of the last one's is not worth another: the guest writes as fast as is sent. */
const SHRINKING = 0.8;

/** Between so many frames it is looked whether the domain is still to go. */
const FRAMES_PER_PIECE = 1024;

/**
 * @throws SaveError         the domain runs on here; also if the hand's signal aborts before the commit
 * @throws MigrationInDoubt  it stands still here
 */
export async function sendDomain(
  link: Duplex,
  domain: MovingDomain,
  onProgress: (progress: MigrationProgress) => void = () => {},
  { signal, onCommit }: Hand = {},
): Promise<MigrationReport> {
  const begin = performance.now();
  const { memory } = domain;
  const log = new DirtyLog(memory);
  const writer = new RecordWriter(link, false, ANSWER_MS);
  const meter = new MigrationMeter(() => writer.bytes, onProgress);
  let halted = false;
  let committed = false;
  // A link that takes nothing would hold up whoever waits for it.
  const abandon = (): void => void link.destroy(new Error(CANCELLED));
  signal?.addEventListener("abort", abandon);
  const send = async (frames: readonly Frame[]): Promise<void> => {
    for (let from = 0; from < frames.length; from += FRAMES_PER_PIECE) {
      signal?.throwIfAborted();
      await writeFrames(writer, memory, frames.slice(from, from + FRAMES_PER_PIECE));
      meter.piece();
    }
  };
  try {
    signal?.throwIfAborted();
    const take = (): Promise<Frame[]> => log.collect((vcpuId) => domain.isResting(vcpuId));
    await writer.write(RecordType.config, json(domain.header));
    const rounds = await sendRounds(log, domain, send, (round, dirtyFrames) => meter.roundEnded(round, dirtyFrames));
    await domain.settle();
    signal?.throwIfAborted();
    meter.handover();
    const rest = [...rounds.left, ...(await take())];
    halted = true;
    const stillAt = performance.now();
    const parts = await domain.halt();
    await writer.write(RecordType.clock, json(parts.header));
    await writeFrames(writer, memory, [...new Set([...rest, ...(await take())])]);
    await writeParts(writer, parts, memory.saveMap());
    await writer.write(RecordType.end, new Uint8Array());
    const answers = new Answers(link);
    await answers.expect(RecordType.ready);
    await domain.release();
    signal?.throwIfAborted();
    committed = true;
    signal?.removeEventListener("abort", abandon);
    onCommit?.();
    await writer.write(RecordType.commit, new Uint8Array());
    await answers.expect(RecordType.running);
    const now = performance.now();
    return { rounds: rounds.count, sentBytes: writer.bytes, totalMs: now - begin, downtimeMs: now - stillAt };
  } catch (error) {
    const isCancelled = signal?.aborted === true && !committed;
    const reason = `the domain could not be moved: ${isCancelled ? CANCELLED : (error as Error).message}`;
    if (committed && !(error instanceof Refused))
      throw new MigrationInDoubt(`${reason}; it may run there, and is paused here`, { cause: error });
    if (halted)
      await domain.resume().catch((cause: Error) => {
        throw new MigrationInDoubt(`${reason}; it is paused here, because ${cause.message}`, { cause });
      });
    throw new SaveError(reason, { cause: error });
  } finally {
    signal?.removeEventListener("abort", abandon);
    log.stop();
    link.destroy();
  }
}

class Answers {
  readonly #link: Duplex;
  #records: Promise<RecordReader> | undefined;

  constructor(link: Duplex) {
    this.#link = link;
  }

  /** @throws SaveError  for any other answer, and for none */
  async expect(wanted: number): Promise<void> {
    const timer = setTimeout(() => this.#link.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)), ANSWER_MS);
    try {
      this.#records ??= RecordReader.ofStream("the other server", this.#link);
      const { type, payload } = await (await this.#records).next();
      if (type === RecordType.refused) throw new Refused(payload.toString());
      if (type !== wanted) throw new SaveError(`the other server answers ${type}, expected ${wanted}`);
    } finally {
      clearTimeout(timer);
    }
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
): Promise<{ readonly count: number; readonly left: Frame[] }> {
  await log.start(isResting);
  for await (const frames of usedFrames(memory)) await send(frames);
  let before = Number.POSITIVE_INFINITY;
  for (let count = 1; ; count++) {
    const left = await log.collect(isResting);
    onRound(count, left.length);
    if (left.length <= FEW_FRAMES || count === MAX_ROUNDS || left.length > before * SHRINKING) return { count, left };
    before = left.length;
    await send(left);
  }
}
