/** The other end of send.ts: a domain that arrives. */
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { DomainMemory, Frame } from "@xenoserver/cpu";
import type { BlockStore } from "@xenoserver/devices";
import type { DomainConfig } from "../cfg/index.ts";
import { SaveError } from "../save/error.ts";
import {
  RecordReader,
  type Records,
  RecordType,
  RecordWriter,
  type SavedRecord,
  Sync,
  wordsOf,
} from "../save/records.ts";
import { type CheckDevices, SavedFile, type SavedHeader, type SavedParts } from "../save/saved-domain.ts";
import { type FramesHandle, fetchFrames } from "../snapshot/frame-source.ts";
import { LaterLine } from "./later/later-line.ts";
import { Luggage, type Places } from "./luggage.ts";
import { checkOffer } from "./offer.ts";
import { Requests } from "./requests.ts";

/** How long the other side may take to hear that it is refused. */
const HEARING_MS = 5000;

export class ArrivingDomain extends SavedFile {
  readonly #link: Duplex;
  readonly #answers: RecordWriter;
  #luggage: Luggage | undefined;
  #isSettled = false;
  #isRunning = false;
  /** If some of its memory comes when it runs here. */
  #later: LaterLine | undefined;
  /** Such frames, once they were told. */
  #laterFrames: readonly Frame[] = [];
  #check: CheckDevices = async () => {};

  private constructor(
    header: SavedHeader,
    config: DomainConfig,
    records: Records,
    link: Duplex,
    answers: RecordWriter,
  ) {
    super(header, config, records);
    this.#link = link;
    this.#answers = answers;
  }

  /** @throws SaveError  what comes is no domain */
  static async from(link: Duplex): Promise<ArrivingDomain> {
    const records = await RecordReader.ofStream("the domain that arrives", link);
    const answers = new RecordWriter(link, false);
    try {
      const { header, config } = await SavedFile.begin(records);
      return new ArrivingDomain(header, config, records, link, answers);
    } catch (error) {
      await refuse({ link, records, answers }, (error as Error).message);
      throw error;
    }
  }

  /**
   * Has what the domain cannot reach from here come along. Then `config` is what it is here.
   * @param places  where that may be put; without, nothing comes along
   * @throws Error  it cannot be here; `refuse` it
   */
  async settle(places?: Places): Promise<void> {
    this.#isSettled = true;
    const offer = checkOffer(this.header.offer, this.config);
    if (places !== undefined) {
      const requests = new Requests(this.records, this.#answers);
      this.#luggage = await Luggage.fetch(this.config, offer, places, requests);
      this.config = this.#luggage.config;
    }
    if (this.header.postCopy === true) {
      this.#later = LaterLine.for(this.#link);
      if (this.#later === undefined)
        throw new SaveError("post-copy: this server cannot take a domain whose memory comes later, expected Linux");
    }
    const disks = this.#luggage?.wanted ?? [];
    await this.#answers.write(RecordType.placed, Buffer.from(JSON.stringify({ disks })));
  }

  override async load(memory: DomainMemory, check: CheckDevices): Promise<SavedParts> {
    if (!this.#isSettled) await this.settle();
    this.#check = check;
    const parts = await super.load(memory, check);
    if (this.#later !== undefined) {
      for (const frame of this.#laterFrames) memory.absent.markAbsent(frame);
      this.#later.take(this.#link, memory);
      fetchFrames(memory, this.#later.frames);
    }
    return parts;
  }
  override get frames(): FramesHandle | undefined {
    return this.#later?.frames;
  }
  override get whole(): Promise<void> {
    return this.#later?.whole ?? Promise.resolve();
  }

  protected override async takeOther({ type, payload }: SavedRecord, memory: DomainMemory): Promise<boolean> {
    switch (type) {
      case RecordType.idle:
        return true;
      case RecordType.blocks:
        if (this.#luggage === undefined) throw new RangeError("blocks of a disk, expected none");
        await this.#luggage.take(payload);
        return true;
      case RecordType.later:
        this.#laterFrames = laterFrames(payload, memory.frameCount);
        return true;
      case RecordType.sync:
        if (payload[0] === Sync.flushed) await this.#prepare();
        await this.#answers.write(RecordType.synced, new Uint8Array());
        return true;
      default:
        return false;
    }
  }

  async #prepare(): Promise<void> {
    await this.#luggage?.flush();
    const came = this.#luggage?.vdevs;
    const disks = this.config.disks?.filter(({ vdev }) => came?.has(vdev) !== true);
    await this.#check({ ...this.config, ...(disks && { disks }) });
  }

  override diskOf(vdev: string): BlockStore | undefined {
    return this.#luggage?.handOver(vdev);
  }

  /** Says that it could run, and waits for the word that it does not run there any more, nor has its devices. */
  override async commit(): Promise<void> {
    await this.#luggage?.flush();
    await this.#say(RecordType.ready);
    const { type } = await (this.#later ?? this.records).next();
    if (type !== RecordType.commit) throw new SaveError(`the other server says ${type}, expected ${RecordType.commit}`);
  }

  override async started(): Promise<void> {
    const begin = performance.now();
    // What came is this server's before the other one hears of it, and gives up what it has.
    await this.#luggage?.keep().catch(() => {});
    // Who cannot be told asks this server whether the domain runs here.
    const ran = Buffer.from(JSON.stringify({ ranMs: performance.now() - begin }));
    this.#isRunning = true;
    await this.#say(RecordType.running, ran).catch(() => {});
    if (this.#later === undefined) this.#link.end();
  }

  async #say(type: number, payload: Uint8Array = new Uint8Array()): Promise<void> {
    if (this.#later === undefined) await this.#answers.write(type, payload);
    else this.#later.say(type, payload);
  }

  /** The link stays: it is told why. */
  override close(): void {}
  override closeFrames(): void {
    if (this.#isRunning) void this.#later?.close();
  }

  /** Tells the other side why it will not run here; the domain goes on there. What came along is removed. */
  async refuse(reason: string): Promise<void> {
    await this.#luggage?.discard();
    if (this.#later?.isTaken === true) {
      this.#later.say(RecordType.refused, Buffer.from(reason));
      // The other side ends the line when it has heard that.
      const isHeard = this.#later.whole.catch(() => {});
      await Promise.race([isHeard, sleep(HEARING_MS, undefined, { ref: false })]);
    } else await refuse({ link: this.#link, records: this.records, answers: this.#answers }, reason);
    await this.#later?.close();
  }
}

interface Line {
  readonly link: Duplex;
  readonly records: Records;
  readonly answers: RecordWriter;
}

async function refuse({ link, records, answers }: Line, reason: string): Promise<void> {
  await answers.write(RecordType.refused, Buffer.from(reason)).catch(() => {});
  link.end();
  // Were it closed with something unread, the other side might not read the reason.
  await Promise.race([records.drain(), sleep(HEARING_MS, undefined, { ref: false })]);
  link.destroy();
}

/** The frames that come later. @throws RangeError */
function laterFrames(payload: Buffer<ArrayBuffer>, frameCount: number): Frame[] {
  const frames = [...wordsOf(payload)] as Frame[];
  const strange = frames.find((frame) => frame >= frameCount);
  if (strange !== undefined) throw new RangeError(`frame ${strange}, expected one of ${frameCount}`);
  return frames;
}
