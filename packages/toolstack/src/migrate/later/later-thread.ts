/** Entry of the thread that has the line to the server from which a domain's last frames come. */
import { Socket } from "node:net";
import { isMainThread, parentPort } from "node:worker_threads";
import { DomainMemory, type DomainMemoryHandle } from "@xenoserver/cpu";
import { RecordReader, RecordType, RecordWriter, type SavedRecord } from "../../save/records.ts";
import { framesOf } from "../../save/saved-domain.ts";
import { ANSWER_MS } from "../answers.ts";
import { AskedFrames, type LaterFramesHandle } from "./frames.ts";

export interface LaterThreadData {
  readonly memory: DomainMemoryHandle;
  readonly frames: LaterFramesHandle;
  /** Of the line, which is this thread's from now on; nothing that it holds was read ahead. */
  readonly fd: number;
}
/** What the main thread wants said. */
export type ToLater = { readonly say: number; readonly payload: Uint8Array };
export type FromLater =
  | { readonly kind: "record"; readonly type: number; readonly payload: Uint8Array }
  /** All frames are here. */
  | { readonly kind: "arrived" }
  | { readonly kind: "lost"; readonly reason: string };

/** The other side counts this one as gone if it hears nothing for longer. */
const IDLE_MS = ANSWER_MS / 6;

if (!isMainThread) parentPort!.once("message", (data: LaterThreadData) => new Line(data).serve());

class Line {
  readonly #memory: DomainMemory;
  readonly #asked: AskedFrames;
  readonly #link: Socket;
  readonly #writer: RecordWriter;
  /** Frames that have not come. */
  #left: number;
  #isRunning = false;
  #isDone = false;

  constructor({ memory, frames, fd }: LaterThreadData) {
    this.#memory = DomainMemory.attach(memory);
    this.#asked = new AskedFrames(frames);
    this.#link = new Socket({ fd, readable: true, writable: true });
    this.#link.on("error", () => {});
    this.#writer = new RecordWriter(this.#link, false, ANSWER_MS, true);
    this.#left = this.#memory.absent.count;
  }

  serve(): void {
    const idle = setInterval(() => this.#say(RecordType.idle), IDLE_MS);
    parentPort!.on("message", ({ say, payload }: ToLater) => {
      this.#say(say, payload);
      if (say === RecordType.running) this.#isRunning = true;
      this.#endIfWhole();
    });
    void this.#ask();
    this.#listen()
      .catch((error: Error) => this.#isDone || this.#lose(error))
      .finally(() => {
        clearInterval(idle);
        parentPort!.close();
      });
  }

  #say(type: number, payload: Uint8Array = new Uint8Array()): void {
    // Who cannot be told is gone, which the listener hears of.
    this.#writer.write(type, payload).catch(() => {});
  }

  /** Asks for what others wait for. */
  async #ask(): Promise<void> {
    while (!this.#link.destroyed) {
      const { rung } = this.#asked;
      const frames = this.#asked.take();
      if (frames.length > 0) this.#say(RecordType.fetch, new Uint8Array(Uint32Array.from(frames).buffer));
      else await this.#asked.rings(rung);
    }
  }

  /** @throws Error  the line has ended */
  async #listen(): Promise<never> {
    const records = RecordReader.ofRest("the server that the domain comes from", this.#link);
    for (;;) {
      const record = await records.next();
      if (record.type === RecordType.frames) this.#take(record);
      else this.#tell({ kind: "record", type: record.type, payload: Uint8Array.from(record.payload) });
      this.#endIfWhole();
    }
  }
  /** The other side's memory of it may go only when it runs here with its own. */
  #endIfWhole(): void {
    if (this.#left > 0 || !this.#isRunning || this.#isDone) return;
    this.#isDone = true;
    this.#say(RecordType.arrived);
    this.#tell({ kind: "arrived" });
    this.#link.end();
  }
  #take({ payload }: SavedRecord): void {
    for (const [frame, bytes] of framesOf(payload, this.#memory.frameCount))
      if (this.#memory.supply(frame, bytes)) this.#left--;
    this.#asked.tell();
  }

  #lose(error: Error): void {
    this.#link.destroy();
    this.#asked.lose();
    const missing = this.#left === 0 ? "" : `${this.#left} frames did not come: `;
    this.#tell({ kind: "lost", reason: missing + error.message });
  }
  #tell(message: FromLater): void {
    parentPort!.postMessage(message);
  }
}
