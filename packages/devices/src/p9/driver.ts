/**
 * Shares a folder of the host with a guest: the backend of Xen's 9pfs.
 * @see xen/docs/misc/9pfs.pandoc; Linux, net/9p/trans_xen.c
 */
import type { HostChannel, MappedGrant } from "@xenoserver/xen";
import { GrantError, mapGrants, RingError, unmapGrants } from "../ring/index.ts";
import {
  type BackendDriver,
  type BackendHost,
  type ConnectContext,
  type Connection,
  DeviceError,
  type Nodes,
} from "../xenbus/index.ts";
import { HEADER_BYTES, RequestReader } from "./protocol.ts";
import { FlexRing, RING_ORDER, RING_REFS } from "./ring.ts";
import { P9Server } from "./server.ts";
import { Share } from "./share.ts";

export interface P9Config {
  /** By which the guest mounts it. */
  readonly tag: string;
  /** A folder of the host. */
  readonly path: string;
  readonly readOnly: boolean;
}

/** Linux sets up two, and refuses a backend that has fewer. */
const MAX_RINGS = 4;
const MAX_RING_ORDER = 7;
const MAX_U32 = 0xffffffff;
/** Requests of one ring that are under way at once. */
const MAX_RUNNING = 64;
/** How soon an answer that found no room is tried again, as not every guest says when it has read. */
const RETRY_MS = 5;

export class P9Driver implements BackendDriver {
  readonly deviceClass = "9pfs";
  readonly stateVersion = 1;
  readonly #host: BackendHost;
  readonly #config: P9Config;

  constructor(host: BackendHost, config: P9Config) {
    this.#host = host;
    this.#config = config;
  }

  frontendNodes(): Nodes {
    return { tag: this.#config.tag };
  }

  backendNodes(): Nodes {
    return {
      versions: "1",
      "max-rings": String(MAX_RINGS),
      "max-ring-page-order": String(MAX_RING_ORDER),
      security_model: "none",
      path: this.#config.path,
    };
  }

  connect({ frontend, name, fail, saved }: ConnectContext): Connection {
    if (saved !== undefined) throw new DeviceError(`${name}: a folder in use cannot be taken along`);
    frontend.readUnsigned("version", { min: 1, max: 1 });
    const ringCount = frontend.readUnsigned("num-rings", { min: 1, max: MAX_RINGS });
    const connection = new P9Connection(this.#host, new Share(this.#config.path, this.#config.readOnly), name, fail);
    try {
      for (let n = 0; n < ringCount; n++) {
        connection.addRing(
          frontend.readUnsigned(`ring-ref${n}`, { max: MAX_U32 }),
          frontend.readUnsigned(`event-channel-${n}`, { max: MAX_U32 }),
        );
      }
    } catch (error) {
      void connection.close();
      throw error instanceof GrantError ? new DeviceError(`${name}: ring: ${error.message}`) : error;
    }
    setImmediate(() => connection.serveAll());
    return connection;
  }
}

class P9Connection implements Connection {
  readonly #host: BackendHost;
  readonly #share: Share;
  readonly #name: string;
  readonly #fail: (error: DeviceError) => void;
  readonly #rings: P9Ring[] = [];
  #server: P9Server | undefined;

  constructor(host: BackendHost, share: Share, name: string, fail: (error: DeviceError) => void) {
    this.#host = host;
    this.#share = share;
    this.#name = name;
    this.#fail = fail;
  }

  addRing(ref: number, port: number): void {
    const { grants, channels } = this.#host;
    const [intf] = mapGrants(grants, [ref], true);
    let pages: MappedGrant[] = [];
    try {
      const view = new DataView(intf!.bytes.buffer, intf!.bytes.byteOffset, intf!.bytes.length);
      const order = view.getUint32(RING_ORDER, true);
      if (order < 1 || order > MAX_RING_ORDER)
        throw new DeviceError(`${this.#name}: ring_order is ${order}, expected 1 to ${MAX_RING_ORDER}`);
      const refs = Array.from({ length: 2 ** order }, (_, n) => view.getUint32(RING_REFS + 4 * n, true));
      pages = mapGrants(grants, refs, true);
      const ring = new FlexRing(intf!, pages);
      // Rings carry the same files: a fid that one ring made is known on the other.
      this.#server ??= new P9Server(this.#share, ring.sizeBytes);
      const channel = channels.bindInterdomain(port, () => one.serve());
      if (channel === undefined)
        throw new DeviceError(`${this.#name}: event channel ${port} is not offered to domain 0`);
      const one = new P9Ring(ring, [intf!, ...pages], channel, this.#server, (error) =>
        this.#fail(new DeviceError(`${this.#name}: ${error.message}`)),
      );
      this.#rings.push(one);
    } catch (error) {
      unmapGrants([intf!, ...pages]);
      throw error;
    }
  }

  serveAll(): void {
    for (const ring of this.#rings) ring.serve();
  }

  pause(): void {
    for (const ring of this.#rings) ring.paused = true;
  }

  async paused(): Promise<void> {
    await Promise.all(this.#rings.map((ring) => ring.atRest()));
  }

  resume(): void {
    for (const ring of this.#rings) ring.paused = false;
    this.serveAll();
  }

  async close(): Promise<void> {
    await Promise.all(this.#rings.map((ring) => ring.close()));
    await this.#server?.close();
  }

  exportState(): unknown {
    return undefined;
  }
}

class P9Ring {
  paused = false;
  readonly #ring: FlexRing;
  readonly #mapped: readonly MappedGrant[];
  readonly #channel: HostChannel;
  readonly #server: P9Server;
  readonly #fail: (error: RingError) => void;
  readonly #running = new Set<Promise<void>>();
  readonly #answers: Uint8Array[] = [];
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(
    ring: FlexRing,
    mapped: readonly MappedGrant[],
    channel: HostChannel,
    server: P9Server,
    fail: (error: RingError) => void,
  ) {
    this.#ring = ring;
    this.#mapped = mapped;
    this.#channel = channel;
    this.#server = server;
    this.#fail = fail;
  }

  /** Takes what waits and answers what is done. Never throws. */
  serve(): void {
    if (this.#closed) return;
    try {
      let moved = this.#answer();
      while (!this.paused && this.#running.size + this.#answers.length < MAX_RUNNING && this.#take()) moved = true;
      if (moved) this.#channel.notify();
    } catch (error) {
      if (!(error instanceof RingError)) throw error;
      this.#closed = true;
      this.#fail(error);
    }
  }

  /** @returns whether there was a whole request */
  #take(): boolean {
    const waiting = this.#ring.waitingBytes;
    if (waiting < HEADER_BYTES) return false;
    const header = Buffer.alloc(HEADER_BYTES);
    this.#ring.peek(header);
    const size = header.readUInt32LE(0);
    if (size < HEADER_BYTES || size > this.#ring.sizeBytes)
      throw new RingError(`a message has ${size} bytes, expected ${HEADER_BYTES} to ${this.#ring.sizeBytes}`);
    if (waiting < size) return false;
    const bytes = Buffer.allocUnsafe(size);
    this.#ring.peek(bytes);
    this.#ring.take(size);
    // The guest may have changed its length between the two looks.
    bytes.set(header);
    const running: Promise<void> = this.#server.serve(new RequestReader(bytes)).then((answer) => {
      this.#running.delete(running);
      this.#answers.push(answer);
      this.serve();
    });
    this.#running.add(running);
    return true;
  }

  #answer(): boolean {
    let put = false;
    while (this.#answers.length > 0 && this.#ring.roomBytes >= this.#answers[0]!.length) {
      this.#ring.put(this.#answers.shift()!);
      put = true;
    }
    if (this.#answers.length > 0) {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.serve();
      }, RETRY_MS);
    }
    return put;
  }

  async atRest(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  async close(): Promise<void> {
    this.paused = true;
    await this.atRest();
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#channel.close();
    unmapGrants(this.#mapped);
  }
}
