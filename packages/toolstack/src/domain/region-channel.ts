/** How vcpu threads and the thread that compiles their hot code speak. */
import { setFlagsFromString } from "node:v8";
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import type { DomainMemoryHandle } from "@xenoserver/cpu";
import type { EngineModules } from "@xenoserver/cpu/interp/interpreter.ts";
import type { CompiledRegions, RegionJob, RegionService } from "@xenoserver/cpu/jit/region-compiler.ts";
import { programUrl } from "../program.ts";
import type { FramesHandle } from "../snapshot/frame-source.ts";
import { type FoundEngine, readEngine } from "../translations/engine-file.ts";
import { KeptModules, type KnownHandle } from "../translations/kept-modules.ts";
import { enginePath, type TranslationsPlace } from "../translations/place.ts";

/** Jobs of a vcpu that may wait; what is asked for beyond that is forgotten, and asked for again if it stays hot. */
const MAX_WAITING = 24;

export interface RegionThreadData {
  readonly memory: DomainMemoryHandle;
  readonly ends: readonly RegionEnd[];
  /** From where frames are fetched that are not in memory yet. */
  readonly frames?: FramesHandle;
  /** Where translations are kept, unless they are not. */
  readonly translations?: TranslationsPlace;
}
/** From a vcpu. */
export type RegionQuestion =
  | { readonly kind: "compile"; readonly job: RegionJob }
  /** It has a module of an earlier run, whose record begins there in the file. */
  | { readonly kind: "read"; readonly at: number; readonly module: WebAssembly.Module }
  /** It has its engine's own module, which is to be kept in that file; so much machine code is there. */
  | {
      readonly kind: "engine";
      readonly path: string;
      readonly module: WebAssembly.Module;
      readonly bytes: Uint8Array;
      readonly codeBytes: number;
    };
/** To a vcpu: what became of a job, or, first and only if there is any, what earlier runs translated. */
export type RegionAnswer =
  | { readonly kind: "compiled"; readonly compiled: readonly CompiledRegions[] }
  | { readonly kind: "known"; readonly handle: KnownHandle };

/** One vcpu's end of the channel. `answers` counts what was sent, so that the vcpu need not look at the port in vain. */
export interface RegionEnd {
  readonly port: MessagePort;
  readonly answers: SharedArrayBuffer;
}

/** A vcpu thread's end. */
export class RegionClient implements RegionService {
  readonly #port: MessagePort;
  readonly #answers: Int32Array;
  #waiting = 0;
  #received = 0;
  #known: KeptModules | undefined;

  constructor({ port, answers }: RegionEnd) {
    this.#port = port;
    this.#answers = new Int32Array(answers);
    // Messages are looked for, not waited for.
    port.unref();
  }

  request(job: RegionJob): void {
    if (this.#waiting >= MAX_WAITING) return;
    this.#waiting++;
    this.#ask({ kind: "compile", job });
  }
  #ask(question: RegionQuestion): void {
    this.#port.postMessage(question);
  }
  finished(): CompiledRegions[] {
    const done: CompiledRegions[] = [];
    while (this.#received < Atomics.load(this.#answers, 0)) {
      const answer = (receiveMessageOnPort(this.#port) as { message: RegionAnswer } | undefined)?.message;
      if (answer === undefined) break;
      this.#received++;
      if (answer.kind === "known")
        this.#known = new KeptModules(answer.handle, (at, module) => this.#ask({ kind: "read", at, module }));
      else {
        this.#waiting--;
        done.push(...answer.compiled);
      }
    }
    return done;
  }
  known(): KeptModules | undefined {
    return this.#known;
  }

  /** Engines' own modules from files of a place. */
  enginesIn(place: TranslationsPlace): EngineModules {
    const follow = (path: string, { module, bytes, codeBytes }: FoundEngine): void =>
      this.#ask({ kind: "engine", path, module, bytes, codeBytes });
    return {
      find: (key) => {
        const path = enginePath(place, key);
        const found = readEngine(path);
        if (found) follow(path, found);
        return found?.module;
      },
      made: (key, module, bytes) => follow(enginePath(place, key), { module, bytes, codeBytes: 0 }),
    };
  }
}

/**
 * For all threads of the process, before they compile: a function's first call would otherwise compile it on the vcpu's thread. What one keeps,
 * another takes only with the same flags.
 */
export const compileAtOnce = (): void => setFlagsFromString("--no-wasm-lazy-compilation");

/** To a thread that compiles hot code of several domains. */
export type RegionMessage =
  | { readonly kind: "add"; readonly domain: number; readonly data: RegionThreadData }
  /** What the domain translated is kept; then the same comes back. */
  | { readonly kind: "remove"; readonly domain: number };

/** A thread for any number of domains; it does not keep the process from ending. */
export function newRegionWorker(): Worker {
  const worker = new Worker(programUrl(new URL("./region-thread.ts", import.meta.url)), { name: "regions" });
  worker.unref();
  return worker;
}

let domains = 0;
const SHARE_AFTER_MS = 500;
/** What a thread may take to keep what it translated. */
const KEEP_MS = 500;

/** The thread that compiles hot code of all of a domain's vcpus, or its part of one that other domains have too. */
export class RegionThread {
  readonly #data: RegionThreadData;
  readonly #shared: Worker | undefined;
  readonly #domain = ++domains;
  #worker: Worker | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** An end for each vcpu, to be given to its thread. */
  readonly ends: readonly RegionEnd[];

  /** @param translations  where they are kept, if they are */
  constructor(
    memory: DomainMemoryHandle,
    vcpuCount: number,
    translations: TranslationsPlace | undefined,
    shared?: Worker,
  ) {
    const channels = Array.from({ length: vcpuCount }, () => new MessageChannel());
    const counters = channels.map(() => new SharedArrayBuffer(4));
    const ends = (side: "port1" | "port2"): RegionEnd[] =>
      channels.map((channel, k) => ({ port: channel[side], answers: counters[k]! }));
    this.ends = ends("port1");
    this.#data = { memory, ends: ends("port2"), ...(translations !== undefined && { translations }) };
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
    const worker = this.#worker;
    if (worker === undefined) return;
    const kept = this.#shared === undefined && removed(worker);
    worker.postMessage({ kind: "remove", domain: this.#domain } satisfies RegionMessage);
    if (!kept) return;
    await kept;
    await worker.terminate();
  }
}

function removed(worker: Worker): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, KEEP_MS);
    for (const event of ["message", "exit", "error"])
      worker.once(event, () => {
        clearTimeout(timer);
        resolve();
      });
  });
}
