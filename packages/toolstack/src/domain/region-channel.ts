/** How vcpu threads and the thread that compiles their hot code speak. */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import type { DomainMemoryHandle } from "@xenoserver/cpu";
import type { CompiledRegions, RegionJob, RegionService } from "@xenoserver/cpu/jit/region-compiler.ts";
import { programUrl } from "../program.ts";
import type { FramesHandle } from "../snapshot/frame-source.ts";

/** Jobs of a vcpu that may wait; what is asked for beyond that is forgotten, and asked for again if it stays hot. */
const MAX_WAITING = 24;

export interface RegionThreadData {
  readonly memory: DomainMemoryHandle;
  readonly ends: readonly RegionEnd[];
  /** From where frames are fetched that are not in memory yet. */
  readonly frames?: FramesHandle;
}
/** One vcpu's end of the channel. `answers` counts what was sent, so that the vcpu need not look at the port in vain. */
export interface RegionEnd {
  readonly port: MessagePort;
  readonly answers: SharedArrayBuffer;
}

/** A vcpu thread's end. */
export class RegionClient implements RegionService {
  readonly #port: MessagePort;
  readonly #answers: Int32Array;
  #asked = 0;
  #received = 0;

  constructor({ port, answers }: RegionEnd) {
    this.#port = port;
    this.#answers = new Int32Array(answers);
    // Messages are looked for, not waited for.
    port.unref();
  }

  request(job: RegionJob): void {
    if (this.#asked - this.#received >= MAX_WAITING) return;
    this.#asked++;
    this.#port.postMessage(job);
  }
  finished(): CompiledRegions[] {
    const done: CompiledRegions[] = [];
    while (this.#received < Atomics.load(this.#answers, 0)) {
      const received = receiveMessageOnPort(this.#port);
      if (received === undefined) break;
      this.#received++;
      done.push(...(received.message as CompiledRegions[]));
    }
    return done;
  }
}

/** To a thread that compiles hot code of several domains. */
export type RegionMessage =
  | { readonly kind: "add"; readonly domain: number; readonly data: RegionThreadData }
  | { readonly kind: "remove"; readonly domain: number };

/** A thread for any number of domains; it does not keep the process from ending. */
export function newRegionWorker(): Worker {
  const worker = new Worker(programUrl(new URL("./region-thread.ts", import.meta.url)), { name: "regions" });
  worker.unref();
  return worker;
}

let domains = 0;
const SHARE_AFTER_MS = 500;

/** The thread that compiles hot code of all of a domain's vcpus, or its part of one that other domains have too. */
export class RegionThread {
  readonly #data: RegionThreadData;
  readonly #shared: Worker | undefined;
  readonly #domain = ++domains;
  #worker: Worker | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** An end for each vcpu, to be given to its thread. */
  readonly ends: readonly RegionEnd[];

  constructor(memory: DomainMemoryHandle, vcpuCount: number, shared?: Worker) {
    const channels = Array.from({ length: vcpuCount }, () => new MessageChannel());
    const counters = channels.map(() => new SharedArrayBuffer(4));
    const ends = (side: "port1" | "port2"): RegionEnd[] =>
      channels.map((channel, k) => ({ port: channel[side], answers: counters[k]! }));
    this.ends = ends("port1");
    this.#data = { memory, ends: ends("port2") };
    this.#shared = shared;
  }
  /** Of a shared one a domain asks for nothing so soon, and others are to begin first. */
  start(frames?: FramesHandle): void {
    if (this.#shared === undefined) this.#begin(newRegionWorker(), frames);
    else this.#timer = setTimeout(() => this.#begin(this.#shared!, frames), SHARE_AFTER_MS).unref();
  }
  #begin(worker: Worker, frames: FramesHandle | undefined): void {
    this.#worker = worker;
    const data = { ...this.#data, ...(frames && { frames }) };
    const message: RegionMessage = { kind: "add", domain: this.#domain, data };
    this.#worker.postMessage(
      message,
      data.ends.map(({ port }) => port),
    );
  }
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#shared === undefined) await this.#worker?.terminate();
    else if (this.#worker !== undefined)
      this.#worker.postMessage({ kind: "remove", domain: this.#domain } satisfies RegionMessage);
  }
}
