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

/** The thread that compiles hot code of all of a domain's vcpus. */
export class RegionThread {
  readonly #data: RegionThreadData;
  #worker: Worker | undefined;
  /** An end for each vcpu, to be given to its thread. */
  readonly ends: readonly RegionEnd[];

  constructor(memory: DomainMemoryHandle, vcpuCount: number) {
    const channels = Array.from({ length: vcpuCount }, () => new MessageChannel());
    const counters = channels.map(() => new SharedArrayBuffer(4));
    const ends = (side: "port1" | "port2"): RegionEnd[] =>
      channels.map((channel, k) => ({ port: channel[side], answers: counters[k]! }));
    this.ends = ends("port1");
    this.#data = { memory, ends: ends("port2") };
  }
  start(frames?: FramesHandle): void {
    this.#worker = new Worker(programUrl(new URL("./region-thread.ts", import.meta.url)), {
      workerData: { ...this.#data, ...(frames && { frames }) },
      transferList: this.#data.ends.map(({ port }) => port),
      name: "regions",
    });
    this.#worker.unref();
  }
  async stop(): Promise<void> {
    await this.#worker?.terminate();
  }
}
