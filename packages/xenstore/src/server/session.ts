/** One client of the store: its transactions and watches, and the answers to its requests. */
import { XENSTORE_PAYLOAD_MAX, XsType } from "@xenoserver/xen/abi/xs-wire.ts";
import { XsError } from "../store/error.ts";
import { absolutePath, domainPath, isSpecial } from "../store/path.ts";
import { type Caller, formatPermission, parsePermission } from "../store/permissions.ts";
import type { Request, Store } from "../store/store.ts";
import { type Effect, Transaction } from "../store/transaction.ts";
import {
  errorReply,
  type Message,
  parseStringAndRest,
  parseStrings,
  replyTo,
  strings,
  toBytes,
  toText,
  watchEvent,
} from "../wire/message.ts";
import { type SpecialEvent, Watches } from "./watches.ts";

/** What a session needs to know of the domains around it. */
export interface Domains {
  isIntroduced(domid: number): boolean;
  /** @throws XsError */
  introduce(domid: number, gfn: number, port: number): void;
  /** @throws XsError */
  release(domid: number): void;
}

const OK = strings(["OK"]);

export class Session {
  readonly caller: Caller;
  readonly #store: Store;
  readonly #domains: Domains;
  readonly #watches: Watches;
  readonly #transactions = new Map<number, Transaction>();
  #nextTransaction = 1;
  #afterWatch: (() => void) | undefined;

  /** @param send  takes watch events; called while a request of any session is handled */
  constructor(caller: Caller, store: Store, domains: Domains, send: (message: Message) => void) {
    this.caller = caller;
    this.#store = store;
    this.#domains = domains;
    this.#watches = new Watches(caller, (path, token) => send(watchEvent(path, token)));
  }

  /** The reply to a request; refusals are replies too. Watch events that the request causes were sent before. */
  handle(request: Message): Message {
    try {
      const payload = this.#execute(request);
      if (payload.length > XENSTORE_PAYLOAD_MAX) throw new XsError("E2BIG", "the reply does not fit a message");
      return replyTo(request, payload);
    } catch (error) {
      if (error instanceof XsError) return errorReply(request, error.code);
      throw error;
    }
  }

  /** To be called when the reply of `handle` was sent: a new watch fires right after its reply. */
  afterReply(): void {
    const fire = this.#afterWatch;
    this.#afterWatch = undefined;
    fire?.();
  }

  onEffect(effect: Effect): void {
    this.#watches.onEffect(effect);
  }

  onSpecial(event: SpecialEvent): void {
    this.#watches.onSpecial(event);
  }

  /** Forgets watches and transactions. */
  reset(): void {
    this.#watches.clear();
    this.#transactions.clear();
  }

  #execute(request: Message): Uint8Array {
    const { payload } = request;
    switch (request.type) {
      case XsType.READ:
        return this.#store.read(this.#request(request), this.#path(payload));
      case XsType.WRITE:
        return this.#write(request);
      case XsType.MKDIR:
        this.#store.mkdir(this.#request(request), this.#path(payload));
        return OK;
      case XsType.RM:
        this.#store.rm(this.#request(request), this.#path(payload));
        return OK;
      case XsType.DIRECTORY:
        return strings(this.#store.directory(this.#request(request), this.#path(payload)).names);
      case XsType.DIRECTORY_PART:
        return this.#directoryPart(request);
      case XsType.GET_PERMS: {
        const permissions = this.#store.getPermissions(this.#request(request), this.#path(payload));
        return strings(permissions.map(formatPermission));
      }
      case XsType.SET_PERMS:
        return this.#setPermissions(request);
      case XsType.TRANSACTION_START:
        return this.#startTransaction(request);
      case XsType.TRANSACTION_END:
        return this.#endTransaction(request);
      case XsType.WATCH:
        return this.#watch(payload);
      case XsType.UNWATCH: {
        const [path, token] = this.#list(payload, 2);
        this.#watches.remove(path, token);
        return OK;
      }
      case XsType.RESET_WATCHES:
        this.reset();
        return OK;
      default:
        return this.#executeDomains(request);
    }
  }

  #executeDomains({ type, payload }: Message): Uint8Array {
    switch (type) {
      case XsType.GET_DOMAIN_PATH:
        return strings([domainPath(number(this.#list(payload, 1)[0]))]);
      case XsType.IS_DOMAIN_INTRODUCED: {
        const domid = number(this.#list(payload, 1)[0]);
        const introduced = domid === this.caller.domid || this.#domains.isIntroduced(domid);
        return strings([introduced ? "T" : "F"]);
      }
      case XsType.INTRODUCE: {
        this.#requirePrivilege();
        const [domid, gfn, port] = this.#list(payload, 3);
        this.#domains.introduce(number(domid), number(gfn), number(port));
        return OK;
      }
      case XsType.RELEASE:
        this.#requirePrivilege();
        this.#domains.release(number(this.#list(payload, 1)[0]));
        return OK;
      case XsType.CONTROL:
      case XsType.RESUME:
      case XsType.SET_TARGET:
        this.#requirePrivilege();
        throw new XsError("ENOSYS", "not implemented");
      default:
        throw new XsError("ENOSYS", "no such request");
    }
  }

  #requirePrivilege(): void {
    if (!this.caller.privileged) throw new XsError("EACCES", "only for the control domain");
  }

  #request({ transactionId }: Message): Request {
    if (transactionId === 0) return { caller: this.caller };
    return { caller: this.caller, transaction: this.#transaction(transactionId) };
  }

  #transaction(id: number): Transaction {
    const transaction = this.#transactions.get(id);
    if (transaction === undefined) throw new XsError("ENOENT", "no such transaction");
    return transaction;
  }

  /** Exactly `count` strings. */
  #list(payload: Uint8Array, count: number): string[] {
    const list = parseStrings(payload);
    if (list === undefined || list.length < count) throw new XsError("EINVAL", "malformed request");
    return list;
  }

  #path(payload: Uint8Array): string {
    const list = this.#list(payload, 1);
    return this.#nodePath(list[0]);
  }

  #nodePath(path: string): string {
    if (isSpecial(path)) throw new XsError("EINVAL", "not a node");
    return absolutePath(path, this.caller.domid);
  }

  #write(request: Message): Uint8Array {
    const parts = parseStringAndRest(request.payload);
    if (parts === undefined) throw new XsError("EINVAL", "malformed request");
    this.#store.write(this.#request(request), this.#nodePath(parts.text), parts.rest);
    return OK;
  }

  #directoryPart(request: Message): Uint8Array {
    const [path, offsetText] = this.#list(request.payload, 2);
    const offset = number(offsetText);
    const { names, generation } = this.#store.directory(this.#request(request), this.#nodePath(path));
    const all = toText(strings(names));
    if (offset > all.length || (offset > 0 && all[offset - 1] !== "\0")) throw new XsError("EINVAL", "bad offset");
    const head = `${generation}\0`;
    // An empty string after the last name says that the list is complete.
    const room = XENSTORE_PAYLOAD_MAX - head.length;
    const rest = all.slice(offset);
    if (rest.length < room) return toBytes(`${head}${rest}\0`);
    const end = rest.lastIndexOf("\0", room - 1) + 1;
    return toBytes(head + rest.slice(0, end));
  }

  #setPermissions(request: Message): Uint8Array {
    const [path, ...letters] = this.#list(request.payload, 2);
    const permissions = letters.map(parsePermission);
    this.#store.setPermissions(this.#request(request), this.#nodePath(path), permissions);
    return OK;
  }

  #startTransaction(request: Message): Uint8Array {
    if (request.transactionId !== 0) throw new XsError("EBUSY", "transactions do not nest");
    if (!this.caller.privileged && this.#transactions.size >= this.#store.quota.transactions) {
      throw new XsError("ENOSPC", "too many transactions");
    }
    while (this.#transactions.has(this.#nextTransaction)) this.#advanceTransaction();
    const id = this.#nextTransaction;
    this.#advanceTransaction();
    this.#transactions.set(id, new Transaction(id, this.#store.tree));
    return strings([String(id)]);
  }

  #advanceTransaction(): void {
    this.#nextTransaction = this.#nextTransaction === 0xffffffff ? 1 : this.#nextTransaction + 1;
  }

  #endTransaction(request: Message): Uint8Array {
    const [verdict] = this.#list(request.payload, 1);
    if (verdict !== "T" && verdict !== "F") throw new XsError("EINVAL", "malformed request");
    const transaction = this.#transaction(request.transactionId);
    this.#transactions.delete(request.transactionId);
    if (verdict === "T") this.#store.commit(transaction, this.caller);
    return OK;
  }

  #watch(payload: Uint8Array): Uint8Array {
    const [path, token] = this.#list(payload, 2);
    this.addWatch(path, token);
    this.#afterWatch = () => this.#watches.fireNow(path, token);
    return OK;
  }

  /** Sets a watch without firing it, as when a connection is restored. */
  addWatch(path: string, token: string): void {
    const special = path === "@introduceDomain" || path === "@releaseDomain";
    if (isSpecial(path) && !special) throw new XsError("EINVAL", "no such event");
    const absolute = special ? path : absolutePath(path, this.caller.domid);
    this.#watches.add({ path, token, absolute }, this.#store.quota.watches);
  }

  /** Path and token of each watch, in the order they were set. */
  get watches(): readonly (readonly [path: string, token: string])[] {
    return this.#watches.list.map(({ path, token }) => [path, token]);
  }
}

function number(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new XsError("EINVAL", "malformed number");
  return Number(text);
}
