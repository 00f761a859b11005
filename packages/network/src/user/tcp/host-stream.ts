/** The host's end of a connection, as the guest's half sees it; over a socket of the host, or made up by a test. */
import { connect, type Socket } from "node:net";

export interface HostStream {
  /** Bytes that were written and that the host's kernel has not taken yet. */
  readonly queuedBytes: number;
  /** Takes the bytes; they are not changed any more. */
  write(bytes: Uint8Array): void;
  /** Sends FIN behind what was written. */
  end(): void;
  /** Sends RST, and lets go. */
  reset(): void;
  /** Stops and starts `onData`. */
  pause(): void;
  resume(): void;
}

/** What happens to a stream. Data and the end come after `onOpen`; nothing comes after `reset` or `onFailed`. */
export interface HostStreamEvents {
  onOpen(): void;
  /** The bytes are the receiver's to keep. */
  onData(bytes: Uint8Array): void;
  /** The other side sends no more. */
  onEnd(): void;
  /** What waited has been taken. */
  onDrain(): void;
  /** @param code  as Node names it, e.g. "ECONNREFUSED" */
  onFailed(code: string): void;
}

/** Opens a connection; it fails by an event, never by throwing. */
export type Dial = (host: string, port: number, events: HostStreamEvents) => HostStream;

export const dial: Dial = (host, port, events) =>
  new SocketStream(connect({ host, port, allowHalfOpen: true, noDelay: true, autoSelectFamily: false }), events);

/** A connection that the host accepted; it is paused until `resume`. */
export function acceptedStream(socket: Socket, events: HostStreamEvents): HostStream {
  socket.setNoDelay(true);
  socket.pause();
  return new SocketStream(socket, events);
}

class SocketStream implements HostStream {
  readonly #socket: Socket;
  #over = false;

  constructor(socket: Socket, events: HostStreamEvents) {
    this.#socket = socket;
    const unlessOver =
      <A extends unknown[]>(handler: (...args: A) => void) =>
      (...args: A): void => {
        if (!this.#over) handler(...args);
      };
    socket.on("connect", unlessOver(events.onOpen));
    socket.on("data", unlessOver(events.onData));
    socket.on("end", unlessOver(events.onEnd));
    socket.on("drain", unlessOver(events.onDrain));
    socket.on("finish", unlessOver(events.onDrain));
    socket.on("error", (error: NodeJS.ErrnoException) => this.#fail(error.code ?? "EIO", events));
    socket.on("close", () => {
      if (!socket.readableEnded) this.#fail("ECONNRESET", events);
    });
  }

  #fail(code: string, events: HostStreamEvents): void {
    if (this.#over) return;
    this.#over = true;
    events.onFailed(code);
  }

  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  end(): void {
    this.#socket.end();
  }

  reset(): void {
    this.#over = true;
    if (!this.#socket.destroyed) this.#socket.resetAndDestroy();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }
}
