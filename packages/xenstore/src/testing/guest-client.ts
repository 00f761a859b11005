/** The guest's side of a xenstore ring, for tests: writes requests and reads messages as a kernel does. */
import { XS_HEADER_BYTES, XsRing, XsType } from "@xenoserver/xen/abi/xs-wire.ts";
import type { XenstoreDaemon } from "../server/daemon.ts";
import type { RingConnection } from "../server/ring-connection.ts";
import { decodeHeader, encodeMessage, type Message, strings, toBytes, toText } from "../wire/message.ts";

export class GuestClient {
  readonly page: Uint8Array;
  readonly words: Uint32Array;
  readonly connection: RingConnection;
  notifications = 0;
  #nextId = 1;
  #received: number[] = [];

  constructor(daemon: XenstoreDaemon, domid: number) {
    this.page = new Uint8Array(new SharedArrayBuffer(4096));
    this.words = new Uint32Array(this.page.buffer);
    this.connection = daemon.introduce(domid, {
      page: this.page,
      notify: () => this.notifications++,
      markWritten: () => {},
    });
  }

  /** Puts bytes into the request ring, in pieces as there is room. */
  put(bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) {
      const prod = this.words[XsRing.req_prod / 4];
      const room = 1024 - ((prod - this.words[XsRing.req_cons / 4]) >>> 0);
      if (room === 0) throw new Error("the request ring stays full");
      const count = Math.min(room, bytes.length - done);
      for (let n = 0; n < count; n++) this.page[XsRing.req + ((prod + n) & 1023)] = bytes[done + n];
      this.words[XsRing.req_prod / 4] = prod + count;
      done += count;
      this.connection.onEvent();
    }
  }

  #drain(): void {
    const cons = this.words[XsRing.rsp_cons / 4];
    const used = (this.words[XsRing.rsp_prod / 4] - cons) >>> 0;
    for (let n = 0; n < used; n++) this.#received.push(this.page[XsRing.rsp + ((cons + n) & 1023)]);
    this.words[XsRing.rsp_cons / 4] = cons + used;
    this.connection.onEvent();
  }

  /** The next message from the server, or undefined. */
  take(): Message | undefined {
    for (let round = 0; round < 20; round++) {
      const bytes = Uint8Array.from(this.#received);
      if (bytes.length >= XS_HEADER_BYTES) {
        const { lengthBytes, ...rest } = decodeHeader(bytes);
        if (bytes.length >= XS_HEADER_BYTES + lengthBytes) {
          this.#received = this.#received.slice(XS_HEADER_BYTES + lengthBytes);
          return { ...rest, payload: bytes.slice(XS_HEADER_BYTES, XS_HEADER_BYTES + lengthBytes) };
        }
      }
      this.#drain();
    }
    return undefined;
  }

  /** Sends a request and gives its reply as text, zero bytes shown as "|"; errors as "!ENOENT". */
  call(type: number, payload: string | readonly string[], transactionId = 0): string {
    const bytes = typeof payload === "string" ? toBytes(payload) : strings(payload);
    const requestId = this.#nextId++;
    this.put(encodeMessage({ type, requestId, transactionId, payload: bytes }));
    const reply = this.take();
    if (reply === undefined) return "(none)";
    if (reply.requestId !== requestId) return `(reply to ${reply.requestId})`;
    const text = toText(reply.payload);
    return reply.type === XsType.ERROR ? `!${text.slice(0, -1)}` : text.replaceAll("\0", "|");
  }

  /** Watch events that have arrived, as "path token". */
  events(): string[] {
    const events: string[] = [];
    for (let message = this.take(); message !== undefined; message = this.take()) {
      events.push(
        message.type === XsType.WATCH_EVENT ? toText(message.payload).split("\0", 2).join(" ") : `(${message.type})`,
      );
    }
    return events;
  }
}
