/** Frames that are sent when the domain runs on the other server already: those that it asks for first, the others behind. */
import type { DomainMemory } from "@xenoserver/cpu";
import type { Frame } from "@xenoserver/cpu/memory/guest-memory.ts";
import { SaveError } from "../../save/error.ts";
import { RecordType, type RecordWriter, type SavedRecord, wordsOf } from "../../save/records.ts";
import { writeFrames } from "../../save/saved-domain.ts";
import type { Answers } from "../answers.ts";

const FRAMES_PER_PIECE = 64;

export class LaterSender {
  readonly #writer: RecordWriter;
  readonly #answers: Answers;
  readonly #memory: DomainMemory;
  readonly #left: Set<Frame>;
  readonly #all: ReadonlySet<Frame>;
  /** Frames that the other side could not wait for. */
  fetched = 0;

  /** @param frames  those that the other side was told of; the domain stands still here */
  constructor(writer: RecordWriter, answers: Answers, memory: DomainMemory, frames: readonly Frame[]) {
    this.#writer = writer;
    this.#answers = answers;
    this.#memory = memory;
    this.#all = new Set(frames);
    this.#left = new Set(frames);
  }

  static async announce(writer: RecordWriter, frames: readonly Frame[]): Promise<void> {
    await writer.write(RecordType.later, new Uint8Array(Uint32Array.from(frames).buffer));
  }

  get count(): number {
    return this.#all.size;
  }
  get left(): number {
    return this.#left.size;
  }

  /** Waits for an answer, and meanwhile sends what is asked for. @throws SaveError */
  async next(wanted: number): Promise<SavedRecord> {
    for (;;) {
      const record = await this.#answers.next(wanted, RecordType.fetch, RecordType.idle);
      if (record.type === wanted) return record;
      if (record.type === RecordType.fetch) await this.#sendAsked(record);
    }
  }
  async #sendAsked({ payload }: SavedRecord): Promise<void> {
    const asked = [...wordsOf(payload)] as Frame[];
    const strange = asked.find((frame) => !this.#all.has(frame));
    if (strange !== undefined) throw new SaveError(`the other server asks for frame ${strange}, which it has`);
    const wanted = asked.filter((frame) => this.#left.has(frame));
    this.fetched += wanted.length;
    await this.#send(wanted);
  }
  /** None is sent twice: it might have been written there meanwhile. */
  #send(frames: readonly Frame[]): Promise<void> {
    for (const frame of frames) this.#left.delete(frame);
    return writeFrames(this.#writer, this.#memory, frames);
  }

  /** Sends all that is left, and waits until it is there. @param onPiece  called when some of it was sent @throws SaveError */
  async sendAll(onPiece: () => void): Promise<void> {
    const arrived = this.next(RecordType.arrived);
    // Looked at below; a cut line ends the sending as well.
    arrived.catch(() => {});
    while (this.#left.size > 0) {
      await this.#send(this.#left.values().take(FRAMES_PER_PIECE).toArray());
      onPiece();
    }
    await arrived;
  }
}
