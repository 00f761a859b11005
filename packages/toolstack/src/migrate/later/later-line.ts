/** The line to the server from which a domain's last frames come, as the main thread sees it: another thread has it. */
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { Worker } from "node:worker_threads";
import type { DomainMemory } from "@xenoserver/cpu";
import { linuxFunctions } from "@xenoserver/xen/host/foreign-functions.ts";
import { programUrl } from "../../program.ts";
import { SaveError } from "../../save/error.ts";
import { RecordType, type SavedRecord } from "../../save/records.ts";
import { ANSWER_MS } from "../answers.ts";
import { newLaterFrames } from "./frames.ts";
import type { FromLater, LaterThreadData, ToLater } from "./later-thread.ts";

/** What Node keeps of a socket that the system knows. */
interface Handle {
  readonly fd: number;
  readStop(): void;
}
const handleOf = (link: Duplex): Handle | undefined =>
  link instanceof Socket ? (link as unknown as { readonly _handle?: Handle })._handle : undefined;

export class LaterLine {
  readonly frames = newLaterFrames();
  /** Whether the other thread has the line. */
  isTaken = false;
  readonly #worker: Worker;
  readonly #dup: (fd: number) => number;
  readonly #records: SavedRecord[] = [];
  readonly #whole = Promise.withResolvers<void>();
  #came = Promise.withResolvers<void>();
  #reason: string | undefined;

  private constructor(dup: (fd: number) => number) {
    this.#dup = dup;
    this.#whole.promise.catch(() => {});
    // It takes a moment to load, in which memory comes.
    this.#worker = new Worker(programUrl(new URL("./later-thread.ts", import.meta.url)), { name: "frames" });
    this.#worker.unref();
    this.#worker.on("message", (message: FromLater) => this.#hear(message));
    this.#worker.on("error", (error) => this.#end(error instanceof Error ? error.message : String(error)));
    this.#worker.on("exit", () => this.#end("the thread that has the line has ended"));
  }

  /** @returns undefined where a line cannot be given to another thread */
  static for(link: Duplex): LaterLine | undefined {
    const dup = duplicate();
    const fd = handleOf(link)?.fd;
    return dup === undefined || fd === undefined || fd < 0 ? undefined : new LaterLine(dup);
  }

  /** Settles when all frames are here; rejects if they will not be. */
  get whole(): Promise<void> {
    return this.#whole.promise;
  }

  /** From now on the other thread has the line. The other side says nothing before it is answered. @throws SaveError */
  take(link: Duplex, memory: DomainMemory): void {
    const handle = handleOf(link)!;
    handle.readStop();
    const fd = this.#dup(handle.fd);
    link.destroy();
    if (fd < 0) throw new SaveError("the line to the other server could not be kept open: too many files are open");
    const data: LaterThreadData = { memory: memory.handle, frames: this.frames, fd };
    this.#worker.postMessage(data);
    this.isTaken = true;
  }

  say(type: number, payload: Uint8Array = new Uint8Array()): void {
    this.#worker.postMessage({ say: type, payload } satisfies ToLater);
  }

  /** What the other side says beside frames. @throws SaveError  it says nothing any more */
  async next(): Promise<SavedRecord> {
    const silent = `no word within ${ANSWER_MS / 1000} s`;
    const timer = setTimeout(() => this.#end(silent), ANSWER_MS);
    try {
      while (this.#records.length === 0) {
        if (this.#reason !== undefined) throw new SaveError(this.#reason);
        await this.#came.promise;
        this.#came = Promise.withResolvers();
      }
    } finally {
      clearTimeout(timer);
    }
    return this.#records.shift()!;
  }

  #hear(message: FromLater): void {
    if (message.kind === "lost") return this.#end(message.reason);
    if (message.kind === "arrived") return this.#whole.resolve();
    if (message.type === RecordType.idle) return;
    this.#records.push({ type: message.type, payload: Buffer.from(message.payload) });
    this.#came.resolve();
  }
  #end(reason: string): void {
    this.#reason ??= reason;
    this.#whole.reject(new SaveError(reason));
    this.#came.resolve();
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** @see dup(2); undefined on other systems than Linux, and where Node was built without foreign functions */
function duplicate(): ((fd: number) => number) | undefined {
  return linuxFunctions()?.dlopen(null, { dup: { arguments: ["i32"], return: "i32" } }).functions.dup;
}
