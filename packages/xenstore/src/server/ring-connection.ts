/** A guest's connection: requests from its ring to its session, replies and watch events back. */
import { errorReply, type Message } from "../wire/message.ts";
import type { RingFault, XenstoreRing } from "../wire/ring.ts";
import type { Session } from "./session.ts";
import type { ConnectionState } from "./state.ts";

/** What the connection needs of the guest. */
export interface RingTransport {
  /** The 4096 live bytes of the xenstore page. */
  readonly page: Uint8Array;
  /** Makes the guest's store port pending. */
  notify(): void;
  /** Called after the page was written. */
  markWritten(): void;
}

/** Requests handled before other work of the thread gets its turn. */
const REQUESTS_PER_TURN = 64;

export class RingConnection {
  readonly session: Session;
  readonly #domid: number;
  readonly #ring: XenstoreRing;
  readonly #transport: RingTransport;
  readonly #log: (message: string) => void;
  #isOpen = true;
  #isClosed = false;
  #turnPending = false;

  constructor(
    domid: number,
    ring: XenstoreRing,
    session: Session,
    transport: RingTransport,
    log: (message: string) => void,
  ) {
    this.#domid = domid;
    this.#ring = ring;
    this.session = session;
    this.#transport = transport;
    this.#log = log;
  }

  /** To be called when the guest notified its store port. Never throws. */
  onEvent(): void {
    if (this.#isClosed) return;
    if (this.#ring.wantsReconnect) this.#reconnect();
    if (!this.#isOpen) return;
    this.#flush();
    this.#serveRequests();
    if (this.#ring.tookBytes() && this.#isOpen) this.#signal();
  }

  #serveRequests(): void {
    for (let handled = 0; this.#isOpen && !this.#ring.isCongested; handled++) {
      if (handled === REQUESTS_PER_TURN) {
        this.#takeTurnLater();
        return;
      }
      const request = this.#ring.receive();
      if (request === undefined) return;
      if (typeof request === "string") this.#fail(request);
      else this.#answer(request);
    }
  }

  #answer(request: Message): void {
    this.#enqueue(this.#replyTo(request));
    this.session.afterReply();
    this.#flush();
  }

  /** A mistake of ours must not take the other guests' connections down. */
  #replyTo(request: Message): Message {
    try {
      return this.session.handle(request);
    } catch (error) {
      this.#log(`dom${this.#domid} xenstore: request ${request.type} failed: ${error}`);
      return errorReply(request, "EIO");
    }
  }

  #signal(): void {
    this.#transport.markWritten();
    this.#transport.notify();
  }

  /** Queues a watch event and puts it into the ring if there is room. */
  send(message: Message): void {
    if (!this.#isOpen) return;
    this.#enqueue(message);
    this.#flush();
  }

  #enqueue(message: Message): void {
    const fault = this.#ring.send(message);
    if (fault !== undefined) this.#fail(fault);
  }

  #flush(): void {
    if (!this.#isOpen) return;
    const moved = this.#ring.flush();
    if (typeof moved === "string") this.#fail(moved);
    else if (moved) this.#signal();
  }

  #takeTurnLater(): void {
    if (this.#turnPending) return;
    this.#turnPending = true;
    setTimeout(() => {
      this.#turnPending = false;
      this.onEvent();
    }, 0);
  }

  /** A guest that broke the ring gets no more answers until it asks for a new connection. */
  #fail(fault: RingFault): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.session.reset();
    this.#ring.showFault(fault);
    this.#signal();
    this.#log(`dom${this.#domid} xenstore: ring closed, ${REASONS[fault]}`);
  }

  #reconnect(): void {
    this.session.reset();
    this.#ring.reconnect();
    this.#isOpen = true;
    this.#signal();
  }

  close(): void {
    this.#isOpen = false;
    this.#isClosed = true;
    this.session.reset();
  }

  exportState(): ConnectionState {
    return { domid: this.#domid, watches: this.session.watches, ring: this.#ring.exportState() };
  }

  /** Takes up where an exported connection was; watches do not fire again. */
  importState(state: ConnectionState): void {
    for (const [path, token] of state.watches) this.session.addWatch(path, token);
    this.#ring.importState(state.ring);
    this.onEvent();
  }
}

const REASONS: Readonly<Record<RingFault, string>> = {
  index: "more bytes are announced than it holds, expected at most 1024",
  protocol: "a payload is longer than 4096 bytes",
  overflow: "the guest does not read its replies",
};
