/** A disk whose guest is connected: serves the requests of all its queues, within the disk's limits. */
import type { HostGrants } from "@xenoserver/xen";
import { mapGrants, type RingIndices, unmapGrants } from "../ring/index.ts";
import type { Connection, Nodes } from "../xenbus/index.ts";
import { mapSegments } from "./buffers.ts";
import {
  type BlkifRequest,
  BlkifRsp,
  type BlkifStatus,
  decodeSegments,
  SECTOR_BYTES,
  SEGMENTS_PER_INDIRECT_PAGE,
  type Segment,
} from "./protocol.ts";
import type { BlockQueue } from "./queue.ts";
import type { RateLimiter } from "./rate-limit.ts";
import type { BlockStats } from "./stats.ts";
import type { BlockStore } from "./store.ts";

export interface BlockConnectionConfig {
  readonly name: string;
  readonly store: BlockStore;
  readonly grants: HostGrants;
  readonly limiter: RateLimiter;
  readonly stats: BlockStats;
  readonly log: (message: string) => void;
  readonly properties: Nodes;
}

/** Bounds what a guest has the host hold in memory for it. */
const MAX_IN_FLIGHT_BYTES = 32 << 20;
/** So many requests that were refused or failed are named in the log. */
const NAMED_FAILURES = 8;
const PAGE_SECTORS = 8;

/** What a request is refused for, as the end of a sentence. */
class Refusal extends Error {}

export class BlockConnection implements Connection {
  readonly properties: Nodes;
  readonly #config: BlockConnectionConfig;
  readonly #queues: BlockQueue[] = [];
  #inFlight = 0;
  #inFlightBytes = 0;
  #barrier = false;
  #paused = false;
  #closing = false;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #idle = Promise.withResolvers<void>();

  constructor(config: BlockConnectionConfig) {
    this.#config = config;
    this.properties = config.properties;
  }

  addQueue(queue: BlockQueue): void {
    this.#queues.push(queue);
  }

  /** For the queues: whether the next request may be taken. */
  mayTake(): boolean {
    if (this.#paused || this.#closing || this.#barrier || this.#timer !== undefined) return false;
    if (this.#inFlightBytes >= MAX_IN_FLIGHT_BYTES) return false;
    const delayMs = this.#config.limiter.delayMs();
    if (delayMs === 0) return true;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.serveAll();
    }, delayMs);
    return false;
  }

  serveAll(): void {
    for (const queue of this.#queues) queue.serve();
  }

  begin(queue: BlockQueue, request: BlkifRequest): void {
    const lengthBytes = estimatedBytes(request);
    this.#config.limiter.charge(lengthBytes);
    this.#inFlight++;
    this.#inFlightBytes += lengthBytes;
    void this.#execute(request).then((status) => {
      queue.respond(request, status);
      this.#inFlight--;
      const wasFull = this.#inFlightBytes >= MAX_IN_FLIGHT_BYTES;
      this.#inFlightBytes -= lengthBytes;
      this.#atRest();
      if (wasFull) this.serveAll();
    });
  }

  /** Wakes who waits for all, or all but a barrier, to be done. */
  #atRest(): void {
    if (this.#inFlight > (this.#barrier ? 1 : 0)) return;
    this.#idle.resolve();
    this.#idle = Promise.withResolvers();
  }

  async #untilInFlight(most: number): Promise<void> {
    while (this.#inFlight > most) await this.#idle.promise;
  }

  /** Never rejects: whatever goes wrong becomes the request's status. */
  async #execute(request: BlkifRequest): Promise<BlkifStatus> {
    try {
      switch (request.kind) {
        case "refused":
          this.#complain(request, request.reason);
          return request.status;
        case "flush":
          await this.#flush();
          break;
        case "discard":
          return await this.#discard(request.sector, request.sectorCount);
        case "indirect":
          await this.#transfer(request, this.#readSegments(request.pages, request.segmentCount));
          break;
        case "transfer":
          if (request.barrier) await this.#writeBarrier(request);
          else await this.#transfer(request, request.segments);
      }
      return BlkifRsp.OKAY;
    } catch (error) {
      this.#config.stats.errors++;
      this.#complain(request, error instanceof Error ? error.message : String(error));
      return BlkifRsp.ERROR;
    }
  }

  /** A guest may make as many mistakes as it likes; it may not fill the log with them. */
  #complain({ operation }: BlkifRequest, reason: string): void {
    this.#failures++;
    const { log, name } = this.#config;
    if (this.#failures <= NAMED_FAILURES) log(`${name}: request of operation ${operation}: ${reason}`);
    if (this.#failures === NAMED_FAILURES) log(`${name}: requests that fail are not named any more`);
  }

  async #flush(): Promise<void> {
    this.#config.stats.flushes++;
    await this.#config.store.flush();
  }

  /** All that the guest sent before is on the disk before the write, and all that it sends after it waits for the write. */
  async #writeBarrier(request: BlkifRequest & { kind: "transfer" }): Promise<void> {
    this.#barrier = true;
    try {
      await this.#untilInFlight(1);
      await this.#flush();
      if (request.segments.length > 0) await this.#transfer(request, request.segments);
      await this.#flush();
    } finally {
      this.#barrier = false;
      setImmediate(() => this.serveAll());
    }
  }

  /** Copies the segments out of their pages, as the guest may change them while we look. */
  #readSegments(refs: readonly number[], count: number): readonly Segment[] {
    const pages = mapGrants(this.#config.grants, refs, false);
    const copy = new Uint8Array(pages.length * 4096);
    pages.forEach(({ bytes }, n) => copy.set(bytes, n * 4096));
    unmapGrants(pages);
    const segments = decodeSegments(
      new DataView(copy.buffer),
      0,
      Math.min(count, pages.length * SEGMENTS_PER_INDIRECT_PAGE),
    );
    if (typeof segments === "string") throw new Refusal(segments);
    return segments;
  }

  async #transfer(
    { write, sector }: { readonly write: boolean; readonly sector: number },
    segments: readonly Segment[],
  ): Promise<void> {
    const { store, grants, stats } = this.#config;
    let sectorCount = 0;
    for (const { firstSector, lastSector } of segments) sectorCount += lastSector + 1 - firstSector;
    this.#checkRange(sector, sectorCount);
    if (write && store.info.readOnly) throw new Refusal("writes to a disk that is read-only");
    const buffers = mapSegments(grants, segments, !write);
    try {
      if (write) await store.write(sector * SECTOR_BYTES, buffers.parts);
      else await store.read(sector * SECTOR_BYTES, buffers.parts);
    } finally {
      buffers.release();
    }
    const lengthBytes = sectorCount * SECTOR_BYTES;
    if (write) {
      stats.writes++;
      stats.writtenBytes += lengthBytes;
    } else {
      stats.reads++;
      stats.readBytes += lengthBytes;
    }
  }

  #checkRange(sector: number, count: number): void {
    const sectors = this.#config.store.info.sizeBytes / SECTOR_BYTES;
    if (sector + count > sectors) {
      throw new Refusal(`sectors ${sector} to ${sector + count - 1}, expected ≤ ${sectors - 1}`);
    }
  }

  async #discard(sector: number, sectorCount: number): Promise<BlkifStatus> {
    const { store, stats } = this.#config;
    if (store.info.readOnly || store.info.discardGranularityBytes === undefined) return BlkifRsp.EOPNOTSUPP;
    this.#checkRange(sector, sectorCount);
    stats.discards++;
    await store.discard(sector * SECTOR_BYTES, sectorCount * SECTOR_BYTES);
    return BlkifRsp.OKAY;
  }

  pause(): void {
    this.#paused = true;
  }

  async paused(): Promise<void> {
    await this.#untilInFlight(0);
    for (const queue of this.#queues) queue.push();
  }

  resume(): void {
    this.#paused = false;
    this.serveAll();
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#timer);
    await this.#untilInFlight(0);
    for (const queue of this.#queues) {
      queue.push();
      queue.close();
    }
  }

  exportState(): readonly RingIndices[] {
    return this.#queues.map(({ indices }) => indices);
  }
}

/** What a request may have the host hold, before its segments are looked at. */
function estimatedBytes(request: BlkifRequest): number {
  if (request.kind === "indirect") return request.segmentCount * PAGE_SECTORS * SECTOR_BYTES;
  if (request.kind !== "transfer") return 0;
  let sectors = 0;
  for (const { firstSector, lastSector } of request.segments) sectors += lastSector + 1 - firstSector;
  return sectors * SECTOR_BYTES;
}
