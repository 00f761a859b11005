/** A client of the store inside the server's process: what libxenstore is to the toolstack. */
import { XsType } from "@xenoserver/xen/abi/xs-wire.ts";
import { XsError, type XsErrorName } from "../store/error.ts";
import { type Message, parseStrings, strings, toBytes, toText } from "../wire/message.ts";
import type { Session } from "./session.ts";

/** Reads and writes, in a transaction or not. Paths may be relative to /local/domain/0. Values are text. */
export class StoreAccess {
  protected readonly session: Session;
  readonly #transactionId: number;

  constructor(session: Session, transactionId: number) {
    this.session = session;
    this.#transactionId = transactionId;
  }

  /** @throws XsError  with the protocol's error name */
  protected call(type: number, payload: Uint8Array): Uint8Array {
    const request: Message = { type, requestId: 0, transactionId: this.#transactionId, payload };
    const reply = this.session.handle(request);
    if (reply.type === XsType.ERROR) {
      const [name] = parseStrings(reply.payload) ?? ["EIO"];
      throw new XsError(name as XsErrorName, `xenstore request ${type}`);
    }
    this.session.afterReply();
    return reply.payload;
  }

  /** The value as text, or undefined if there is no such node. */
  read(path: string): string | undefined {
    try {
      return toText(this.call(XsType.READ, strings([path])));
    } catch (error) {
      if (error instanceof XsError && error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  write(path: string, value: string): void {
    this.call(XsType.WRITE, toBytes(`${path}\0${value}`));
  }

  mkdir(path: string): void {
    this.call(XsType.MKDIR, strings([path]));
  }

  /** Removes a node and all below; nothing happens if it does not exist. */
  rm(path: string): void {
    try {
      this.call(XsType.RM, strings([path]));
    } catch (error) {
      if (!(error instanceof XsError && error.code === "ENOENT")) throw error;
    }
  }

  /** Names of the children; empty if there is no such node. */
  list(path: string): string[] {
    try {
      const payload = this.call(XsType.DIRECTORY, strings([path]));
      return payload.length === 0 ? [] : (parseStrings(payload) ?? []);
    } catch (error) {
      if (error instanceof XsError && error.code === "ENOENT") return [];
      throw error;
    }
  }

  /** As in the protocol: "n0", "r3", …; the first names the owner. */
  getPermissions(path: string): string[] {
    return parseStrings(this.call(XsType.GET_PERMS, strings([path]))) ?? [];
  }

  setPermissions(path: string, permissions: readonly string[]): void {
    this.call(XsType.SET_PERMS, strings([path, ...permissions]));
  }
}

export interface WatchHandle {
  unwatch(): void;
}

const MAX_ATTEMPTS = 100;

export class LocalClient extends StoreAccess {
  readonly #callbacks = new Map<string, (path: string) => void>();
  readonly #close: () => void;
  #nextToken = 0;

  constructor(session: Session, close: () => void) {
    super(session, 0);
    this.#close = close;
  }

  /**
   * Called by the server with a watch event of this session. The callback runs when the request that caused the event
   * is done, so that it may use the store itself.
   */
  deliver(message: Message): void {
    const [path, token] = parseStrings(message.payload) ?? [];
    queueMicrotask(() => this.#callbacks.get(token)?.(path));
  }

  /** Calls back soon, and then with the path of every change at or below `path`. */
  watch(path: string, callback: (path: string) => void): WatchHandle {
    const token = String(this.#nextToken++);
    this.#callbacks.set(token, callback);
    this.call(XsType.WATCH, strings([path, token]));
    return {
      unwatch: () => {
        if (this.#callbacks.delete(token)) this.call(XsType.UNWATCH, strings([path, token]));
      },
    };
  }

  /**
   * Runs `body` in a transaction, again if something that it read has changed meanwhile.
   * @throws XsError  EAGAIN if that never ends; whatever `body` throws, after giving the transaction up
   */
  transaction<T>(body: (access: StoreAccess) => T): T {
    for (let attempt = 1; ; attempt++) {
      const id = Number(toText(this.call(XsType.TRANSACTION_START, strings([""]))).slice(0, -1));
      const access = new TransactionAccess(this.session, id);
      let result: T;
      try {
        result = body(access);
      } catch (error) {
        access.end("F");
        throw error;
      }
      try {
        access.end("T");
        return result;
      } catch (error) {
        const outdated = error instanceof XsError && error.code === "EAGAIN";
        if (!outdated || attempt === MAX_ATTEMPTS) throw error;
      }
    }
  }

  close(): void {
    this.session.reset();
    this.#callbacks.clear();
    this.#close();
  }
}

class TransactionAccess extends StoreAccess {
  end(verdict: "T" | "F"): void {
    this.call(XsType.TRANSACTION_END, strings([verdict]));
  }
}
