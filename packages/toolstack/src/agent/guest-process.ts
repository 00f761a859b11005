/** A process in a guest, as its host sees it. */
import { constants } from "node:os";
import { Readable, Writable } from "node:stream";
import { encodeFrame, encodeNumber, MAX_PAYLOAD_BYTES, sizeNumber, type TerminalSize, ToGuest } from "./protocol.ts";

/** The guest, its agent or a process of it cannot do what was asked. One sentence. */
export class AgentError extends Error {
  override readonly name = "AgentError";
  /** The guest's errno, if it is one that says why. */
  readonly errno?: number;

  constructor(message: string, errno?: number) {
    super(message);
    if (errno !== undefined) this.errno = errno;
  }
}

/** How a process ended: with a status of its own, or by a signal. */
export interface ProcessExit {
  /** 0 to 255; of a process that a signal ended 128 and the signal's number, as shells have it. */
  readonly status: number;
  readonly signal?: string;
}

/** Output that a process may have on its way to the host. */
const WINDOW_BYTES = 65536;

export class GuestProcess {
  /** To be read, both of them: output that nobody takes holds the process up. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly stdin: Writable;
  /** The process's number in the guest, once it runs. @throws AgentError  it cannot be started */
  readonly started: Promise<number>;
  /** Settles when it has ended and its output has arrived. @throws AgentError  its agent is gone */
  readonly exited: Promise<ProcessExit>;
  readonly #id: number;
  readonly #send: (frame: Uint8Array) => void;
  readonly #starting = Promise.withResolvers<number>();
  readonly #ending = Promise.withResolvers<ProcessExit>();
  readonly #outputs: Readonly<Record<"stdout" | "stderr", Output>>;
  #room = 0;
  #waiting: { bytes: Uint8Array; done: (error?: Error | null) => void } | undefined;

  constructor(id: number, send: (frame: Uint8Array) => void) {
    this.#id = id;
    this.#send = send;
    this.started = this.#starting.promise;
    this.exited = this.#ending.promise;
    // Whoever asks for one of them need not ask for the other.
    this.started.catch(() => {});
    this.exited.catch(() => {});
    const credit = (bytes: number): void => this.#send(encodeNumber(ToGuest.credit, this.#id, bytes));
    this.#outputs = { stdout: new Output(credit), stderr: new Output(credit) };
    this.stdout = this.#outputs.stdout.stream;
    this.stderr = this.#outputs.stderr.stream;
    this.stdin = new Writable({
      write: (bytes: Uint8Array, _encoding, done) => {
        this.#waiting = { bytes, done };
        this.#feed();
      },
      final: (done) => {
        this.#send(encodeFrame(ToGuest.stdin, this.#id));
        done();
      },
    });
    // A process that ends before it has read all is no error of its host.
    this.stdin.on("error", () => {});
  }

  /** To be called when the agent was asked to start it. */
  begin(): void {
    this.#send(encodeNumber(ToGuest.credit, this.#id, WINDOW_BYTES));
  }

  #feed(): void {
    while (this.#waiting !== undefined) {
      const { bytes, done } = this.#waiting;
      if (bytes.length === 0) {
        this.#waiting = undefined;
        done();
        continue;
      }
      if (this.#room === 0) return;
      const count = Math.min(bytes.length, this.#room, MAX_PAYLOAD_BYTES);
      this.#room -= count;
      this.#send(encodeFrame(ToGuest.stdin, this.#id, bytes.subarray(0, count)));
      this.#waiting = { bytes: bytes.subarray(count), done };
    }
  }

  /** Sends a signal to the process and those that it started. */
  kill(signal: NodeJS.Signals = "SIGTERM"): void {
    this.#send(encodeNumber(ToGuest.signal, this.#id, constants.signals[signal]));
  }

  /** Tells a process with a terminal how large it is now. @throws RangeError */
  resize(size: TerminalSize): void {
    this.#send(encodeNumber(ToGuest.resize, this.#id, sizeNumber(size)));
  }

  onStarted(pid: number): void {
    this.#starting.resolve(pid);
  }

  onRoom(bytes: number): void {
    this.#room += bytes;
    this.#feed();
  }

  /**
   * @param bytes  none at the stream's end
   * @throws AgentError  they are more than the guest was asked for
   */
  onOutput(name: "stdout" | "stderr", bytes: Uint8Array): void {
    const { stdout, stderr } = this.#outputs;
    if (stdout.underWayBytes + stderr.underWayBytes + bytes.length > WINDOW_BYTES)
      throw new AgentError(`the guest's agent sent more than ${WINDOW_BYTES} bytes at once, which nobody asked for`);
    this.#outputs[name].take(bytes);
  }

  /** @param status  as wait(2) has it */
  onExit(status: number): void {
    this.#finish();
    const signal = status & 0x7f;
    if (signal === 0) return this.#ending.resolve({ status: (status >> 8) & 0xff });
    const name = Object.entries(constants.signals).find(([, number]) => number === signal)?.[0] ?? String(signal);
    this.#ending.resolve({ status: 128 + signal, signal: name });
  }

  fail(error: AgentError): void {
    this.#finish();
    this.#starting.reject(error);
    this.#ending.reject(error);
  }

  #finish(): void {
    for (const output of Object.values(this.#outputs)) output.take(new Uint8Array(0));
    this.#waiting?.done();
    this.#waiting = undefined;
    this.stdin.destroy();
  }
}

/** What comes of one of a process's streams. */
class Output {
  readonly stream: Readable;
  /** Bytes that the guest does not know to be taken. */
  underWayBytes = 0;
  #ended = false;

  /** @param credit  asks the guest for so many more bytes */
  constructor(credit: (bytes: number) => void) {
    this.stream = new Readable({
      highWaterMark: WINDOW_BYTES,
      // Called as far as the reader has come.
      read: () => {
        const taken = this.underWayBytes;
        this.underWayBytes = 0;
        if (taken > 0) credit(taken);
      },
    });
  }

  /** @param bytes  none at the end */
  take(bytes: Uint8Array): void {
    if (this.#ended) return;
    if (bytes.length === 0) {
      this.#ended = true;
      this.stream.push(null);
    } else {
      this.underWayBytes += bytes.length;
      // A reader that has left gets no more; the guest may go on.
      if (this.stream.destroyed) this.underWayBytes = 0;
      else this.stream.push(Buffer.from(bytes));
    }
  }
}
