/** One ring of a disk, with its event channel: requests out, responses in. */
import type { HostChannel, HostEventChannels, HostGrants, MappedGrant } from "@xenoserver/xen";
import { BackRing, mapGrants, RingError, type RingIndices, unmapGrants } from "../ring/index.ts";
import { DeviceError } from "../xenbus/index.ts";
import { type BlkifLayout, type BlkifRequest, decodeRequest, encodeResponse } from "./protocol.ts";

export interface QueueConfig {
  /** "dom3 vbd 51712 queue 0". */
  readonly name: string;
  readonly grants: HostGrants;
  readonly channels: HostEventChannels;
  readonly layout: BlkifLayout;
  readonly maxIndirectSegments: number;
  readonly ringRefs: readonly number[];
  readonly guestPort: number;
  readonly at?: RingIndices;
  /** Whether a request may be taken now. If not, `serve` is called again once it may. */
  mayTake(): boolean;
  /** Takes a request over; it is answered by `respond`, sooner or later. */
  begin(queue: BlockQueue, request: BlkifRequest): void;
  fail(error: DeviceError): void;
}

export class BlockQueue {
  readonly #config: QueueConfig;
  readonly #pages: readonly MappedGrant[];
  readonly #ring: BackRing;
  readonly #channel: HostChannel;
  readonly #entry: Uint8Array;
  #pushScheduled = false;
  #serveScheduled = false;
  #closed = false;

  /** @throws DeviceError, GrantError  nothing stays mapped then */
  constructor(config: QueueConfig) {
    this.#config = config;
    this.#pages = mapGrants(config.grants, config.ringRefs, true);
    const channel = config.channels.bindInterdomain(config.guestPort, () => this.serve());
    if (channel === undefined) {
      unmapGrants(this.#pages);
      throw new DeviceError(
        `${config.name}: event-channel is ${config.guestPort}, expected an unbound port for domain 0`,
      );
    }
    this.#channel = channel;
    this.#ring = new BackRing(this.#pages, config.layout.entryBytes, config.at);
    this.#entry = new Uint8Array(config.layout.entryBytes);
  }

  get indices(): RingIndices {
    return this.#ring.indices;
  }

  /** Takes what waits in the ring, a ring's length at the most before other work of this thread has its turn. */
  serve(): void {
    if (this.#closed) return;
    const { layout, maxIndirectSegments } = this.#config;
    try {
      for (let left = this.#ring.entries; ; left--) {
        if (!this.#config.mayTake()) return;
        if (this.#ring.waiting === 0 && !this.#ring.finalCheck()) return;
        if (left === 0) return this.#serveLater();
        this.#ring.take(this.#entry);
        this.#config.begin(this, decodeRequest(this.#entry, layout, maxIndirectSegments));
      }
    } catch (error) {
      if (!(error instanceof RingError)) throw error;
      this.#config.fail(new DeviceError(`${this.#config.name}: ${error.message}`));
    }
  }

  #serveLater(): void {
    if (this.#serveScheduled) return;
    this.#serveScheduled = true;
    setImmediate(() => {
      this.#serveScheduled = false;
      this.serve();
    });
  }

  /** Answers a request. What else completes in the same turn of the event loop is shown to the guest together. */
  respond(request: BlkifRequest, status: number): void {
    this.#ring.put(encodeResponse(this.#config.layout, request, status));
    if (this.#ring.inFlight === 0) this.push();
    else if (!this.#pushScheduled) {
      this.#pushScheduled = true;
      setImmediate(() => this.push());
    }
  }

  /** Shows the guest what was answered. */
  push(): void {
    this.#pushScheduled = false;
    if (!this.#closed && this.#ring.push()) this.#channel.notify();
  }

  /** Nothing may be in flight. */
  close(): void {
    this.#closed = true;
    this.#channel.close();
    unmapGrants(this.#pages);
  }
}
