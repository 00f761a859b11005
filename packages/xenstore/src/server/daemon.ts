/**
 * The store's server: the nodes, the sessions of the guests that were introduced, and those of the host's own parts.
 * Lives on one thread. What xenstored is to Xen.
 */
import { XsError } from "../store/error.ts";
import { DEFAULT_QUOTA, type Quota } from "../store/quota.ts";
import { Store } from "../store/store.ts";
import type { Message } from "../wire/message.ts";
import { XenstoreRing } from "../wire/ring.ts";
import { LocalClient } from "./local-client.ts";
import { RingConnection, type RingTransport } from "./ring-connection.ts";
import { Session } from "./session.ts";
import { exportNodes, importNodes, type StoreState } from "./state.ts";
import type { SpecialEvent } from "./watches.ts";

export interface DaemonConfig {
  readonly quota?: Quota;
  readonly log?: (message: string) => void;
  /** Finds the page and port of a domain that a privileged client introduces by its gfn and port. */
  readonly connect?: (domid: number, gfn: number, port: number) => RingTransport | undefined;
}

export class XenstoreDaemon {
  readonly store: Store;
  readonly #config: DaemonConfig;
  readonly #guests = new Map<number, RingConnection>();
  readonly #sessions = new Set<Session>();
  readonly #domains = {
    isIntroduced: (domid: number): boolean => this.#guests.has(domid),
    introduce: (domid: number, gfn: number, port: number): void => this.#introduceByNumber(domid, gfn, port),
    release: (domid: number): void => this.#releaseOrThrow(domid),
  };

  constructor(config: DaemonConfig = {}) {
    this.#config = config;
    this.store = new Store(config.quota ?? DEFAULT_QUOTA);
    this.store.onEffect = (effect) => {
      for (const session of this.#sessions) session.onEffect(effect);
    };
  }

  /** A client inside this process that acts as domain 0. */
  openLocal(): LocalClient {
    const session = this.#openSession(0, true, (message) => client.deliver(message));
    const client = new LocalClient(session, () => this.#sessions.delete(session));
    return client;
  }

  #openSession(domid: number, privileged: boolean, send: (message: Message) => void): Session {
    const session = new Session({ domid, privileged }, this.store, this.#domains, send);
    this.#sessions.add(session);
    return session;
  }

  /**
   * Starts serving a guest's ring.
   * @returns  the connection, whose `onEvent` the caller binds to the guest's store port
   * @throws XsError  EEXIST if the domain is introduced already
   */
  introduce(domid: number, transport: RingTransport): RingConnection {
    if (this.#guests.has(domid)) throw new XsError("EEXIST", `dom${domid} is introduced already`);
    const ring = new XenstoreRing(transport.page);
    const session = this.#openSession(domid, false, (message) => connection.send(message));
    const connection = new RingConnection(domid, ring, session, transport, this.#config.log ?? (() => {}));
    this.#guests.set(domid, connection);
    this.#special("@introduceDomain");
    return connection;
  }

  /** Stops serving a guest; its nodes stay. */
  release(domid: number): void {
    const connection = this.#guests.get(domid);
    if (connection === undefined) return;
    connection.close();
    this.#guests.delete(domid);
    this.#sessions.delete(connection.session);
    this.#special("@releaseDomain");
  }

  #introduceByNumber(domid: number, gfn: number, port: number): void {
    if (this.#config.connect === undefined) throw new XsError("ENOSYS", "domains are introduced by the host");
    const transport = this.#config.connect(domid, gfn, port);
    if (transport === undefined) throw new XsError("EINVAL", "no such page or port");
    this.introduce(domid, transport);
  }

  #releaseOrThrow(domid: number): void {
    if (!this.#guests.has(domid)) throw new XsError("ENOENT", "no such domain");
    this.release(domid);
  }

  #special(event: SpecialEvent): void {
    for (const session of this.#sessions) session.onSpecial(event);
  }

  /** Nodes, and what each guest's connection needs to go on. Open transactions are lost: clients see EAGAIN's like. */
  exportState(): StoreState {
    const connections = [...this.#guests.values()].map((connection) => connection.exportState());
    return { version: 1, nodes: exportNodes(this.store.tree), connections };
  }

  /**
   * Replaces all nodes. Connections are taken up again by `introduce`, then `RingConnection.importState`.
   * @throws TypeError  for a state of another version
   */
  importState(state: StoreState): void {
    if (state.version !== 1) throw new TypeError(`xenstore state: version ${state.version}, expected 1`);
    this.store.tree.replaceAll(importNodes(state.nodes));
  }
}
