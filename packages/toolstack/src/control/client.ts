/** A client of a domain's control socket. */
import { connect, type Socket } from "node:net";
import {
  type ArgsOf,
  ControlError,
  type ControlEvent,
  LineReader,
  type OperationName,
  type Reply,
  type ResultOf,
} from "./protocol.ts";

interface Pending {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** The process, or the line to it, went before it answered; what was asked for may have been done. */
export class ControlLost extends ControlError {
  constructor() {
    super("conflict", "the domain's process is gone");
  }
}

export class ControlClient {
  /** Called for each event that was asked for. */
  onEvent: (event: ControlEvent) => void = () => {};
  /** Settles when the connection is gone. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #reader = new LineReader();
  #nextId = 1;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes: Buffer) => this.#take(bytes));
    socket.on("error", () => {});
    this.closed = new Promise((resolve) =>
      socket.on("close", () => {
        for (const pending of this.#pending.values()) pending.reject(new ControlLost());
        this.#pending.clear();
        resolve();
      }),
    );
  }

  /** @throws Error  nobody listens at the path */
  static connect(path: string): Promise<ControlClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once("connect", () => resolve(new ControlClient(socket)));
      socket.once("error", reject);
    });
  }

  /** @throws ControlError  the domain refuses; ControlLost */
  call<N extends OperationName>(op: N, args: ArgsOf<N>): Promise<ResultOf<N>> {
    if (this.#socket.destroyed) return Promise.reject(new ControlLost());
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (result: unknown) => void, reject });
      this.#socket.write(`${JSON.stringify({ id, op, args })}\n`);
    });
  }

  /** Stops reading, so that events wait at the other side; for who cannot hand on what it gets. */
  hold(): void {
    this.#socket.pause();
  }

  release(): void {
    this.#socket.resume();
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(bytes: Buffer): void {
    for (const line of this.#reader.push(bytes)) {
      const message = JSON.parse(line) as Reply | ControlEvent;
      if ("event" in message) {
        this.onEvent(message);
        continue;
      }
      const pending = this.#pending.get(message.id);
      this.#pending.delete(message.id);
      if ("error" in message) pending?.reject(new ControlError(message.error.code, message.error.message));
      else pending?.resolve(message.result);
    }
  }
}
