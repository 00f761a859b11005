/** What a domain that leaves takes along, on the side that it leaves. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { BlockSet, Digest } from "@xenoserver/storage";
import type { DomainConfig } from "../cfg/index.ts";
import { SaveError } from "../save/error.ts";
import { RecordType, type RecordWriter } from "../save/records.ts";
import type { Answers } from "./answers.ts";
import { type DiskOffer, FILE_KEYS, type FileKey, type FileOffer, type Offer, pathOf } from "./offer.ts";

/** A disk that could go along. */
export interface LeavingDisk {
  readonly offer: DiskOffer;
  /** The blocks that the other side lacks: those that count when it leaves, later those that were written since the last call. */
  collect(): BlockSet;
  /** Bytes as the guest sees them. */
  read(offset: number, into: Uint8Array): Promise<void>;
  /** A chunk's file, of the image that it is on. */
  chunk?(digest: Digest): Promise<Uint8Array | undefined>;
  /** It stays: nobody collects any more. */
  stay(): Promise<void>;
  /** It is there, and let go of here: what was the domain's alone is removed. */
  remove(): Promise<void>;
}

export interface LeaveOptions {
  /** Disks that are files or devices are copied, too. */
  readonly copyStorage?: boolean;
  /** Files in this folder belong to their domains alone. */
  readonly ownDisks?: string;
  /** What is in this folder goes when the domain does. */
  readonly folder?: string;
  /** Memory is sent once; what the guest writes meanwhile follows when it runs there. */
  readonly postCopy?: boolean;
}

const PIECE_BYTES = 1 << 20;

export class Leaving {
  readonly disks: readonly LeavingDisk[];
  readonly offer: Offer;
  /** By their places in the offer. */
  #taken: ReadonlySet<number> = new Set();
  readonly #config: DomainConfig;

  private constructor(disks: readonly LeavingDisk[], files: readonly FileOffer[], config: DomainConfig) {
    this.disks = disks;
    this.offer = { disks: disks.map(({ offer }) => offer), files };
    this.#config = config;
  }

  /** @param folder  see `LeaveOptions` */
  static async begin(disks: readonly LeavingDisk[], config: DomainConfig, folder?: string): Promise<Leaving> {
    const files: FileOffer[] = [];
    for (const key of FILE_KEYS) {
      const path = pathOf(config, key);
      const sum = path === undefined ? undefined : await sumOf(path).catch(() => undefined);
      // One that is gone was not needed until now, and is missed at a reboot only.
      if (sum !== undefined) files.push({ key, ...sum, stays: dirname(path!) !== folder });
    }
    return new Leaving(disks, files, config);
  }

  /** Gives the other side what it asks for, until it has a place for the domain. @throws SaveError */
  async serve(answers: Answers, writer: RecordWriter): Promise<void> {
    for (;;) {
      const { type, payload } = await answers.next(RecordType.want, RecordType.placed);
      const asked = JSON.parse(payload.toString()) as { chunk?: Digest; file?: FileKey; disks?: number[] };
      if (type === RecordType.placed) {
        this.#taken = new Set(asked.disks);
        return;
      }
      if (asked.file !== undefined) await this.#sendFile(asked.file, writer);
      else await this.#sendChunk(asked.chunk!, writer);
    }
  }

  /** Disks that go along, with their places in the offer. */
  get taken(): readonly (readonly [place: number, disk: LeavingDisk])[] {
    return [...this.disks.entries()].filter(([place]) => this.#taken.has(place));
  }

  async #sendChunk(digest: Digest, writer: RecordWriter): Promise<void> {
    for (const disk of this.disks) {
      const file = await disk.chunk?.(digest);
      if (file === undefined) continue;
      await writer.write(RecordType.chunk, Buffer.concat([Buffer.from(digest, "hex"), file]));
      return;
    }
    throw new SaveError(`chunk ${digest} is not here`);
  }

  async #sendFile(key: FileKey, writer: RecordWriter): Promise<void> {
    const offered = this.offer.files.find((file) => file.key === key);
    if (offered === undefined) throw new SaveError(`the other server asks for ${key}, which was not offered`);
    const file = await open(pathOf(this.#config, key)!);
    try {
      for (let at = 0; at < offered.sizeBytes; at += PIECE_BYTES) {
        const piece = Buffer.alloc(Math.min(PIECE_BYTES, offered.sizeBytes - at));
        await file.read(piece, 0, piece.length, at);
        await writer.write(RecordType.file, piece);
      }
    } finally {
      await file.close();
    }
  }

  /** The domain stays here. */
  async stay(): Promise<void> {
    this.#taken = new Set();
    await Promise.all(this.disks.map((disk) => disk.stay()));
  }

  /**
   * The domain is there: what went along is removed here.
   * @returns what could not be
   */
  async remove(): Promise<string[]> {
    const results = await Promise.allSettled(
      this.disks.map((disk, place) => (this.#taken.has(place) ? disk.remove() : disk.stay())),
    );
    return results.flatMap((result, place) =>
      result.status === "fulfilled"
        ? []
        : [`disk ${this.disks[place]!.offer.vdev} is there, and still here: ${(result.reason as Error).message}`],
    );
  }
}

/** A file's size and sum. */
export async function sumOf(path: string): Promise<Pick<FileOffer, "sizeBytes" | "sha256">> {
  const { size } = await stat(path);
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const bytes of createReadStream(path, { highWaterMark: PIECE_BYTES, end: Math.max(0, size - 1) })) {
    hash.update(bytes as Buffer);
    sizeBytes += (bytes as Buffer).length;
  }
  return { sizeBytes, sha256: hash.digest("hex") };
}
