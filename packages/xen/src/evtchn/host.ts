/**
 * The backends' end of event channels: what domain 0 does with its ports in Xen. Lives on one thread of the domain's
 * process; that thread sleeps in `Atomics.waitAsync` on the backend doorbell, so an idle domain costs nothing.
 */

import { locked } from "@xenoserver/cpu/memory/lock.ts";
import { type EvtchnPort, EvtchnStatus } from "../abi/event-channel.ts";
import { DOMID_BACKEND } from "../abi/xen.ts";
import type { Domain } from "../domain/domain.ts";
import { Field, HOST_PENDING_AT, HostPortField, MAX_HOST_PORTS, PortField } from "../domain/layout.ts";
import { findFreeHostPort, hostPortField, isOpenPort, portField, setHostPortField, setPortField } from "./ports.ts";
import { setPending } from "./send.ts";

/** One connected, or still unconnected, channel of a backend. */
export interface HostChannel {
  /** The number by which the guest names this end in `bind_interdomain`. */
  readonly hostPort: EvtchnPort;
  /** Makes the guest's end pending; nothing happens while it is not connected. */
  notify(): void;
  close(): void;
}

/** The async wait as the language defines it; TypeScript's library types lag behind. */
interface WaitAsync {
  waitAsync(words: Int32Array, at: number, value: number): { async: boolean; value: Promise<string> | string };
}

export class HostEventChannels {
  readonly #domain: Domain;
  readonly #handlers = new Map<number, () => void>();
  #seen: number;
  #stopped = false;
  readonly #onDoorbell: (() => void) | undefined;

  /**
   * @param onDoorbell  called after every wake-up, also for those without an event: a shutdown, a vcpu that parked
   */
  constructor(domain: Domain, onDoorbell?: () => void) {
    this.#domain = domain;
    this.#onDoorbell = onDoorbell;
    this.#seen = domain.get(Field.backendDoorbell);
  }

  /**
   * Connects to a port that the guest left unbound for the backends.
   * @param onEvent  called on this thread after the guest notified, once for any number of notifications
   * @returns        undefined if the guest's port is not waiting for the backends, or no host port is free
   */
  bindInterdomain(guestPort: number, onEvent: () => void): HostChannel | undefined {
    const domain = this.#domain;
    const hostPort = locked(domain.i32, Field.evtchnLock, () => {
      if (!isOpenPort(domain, guestPort)) return -1;
      if (portField(domain, guestPort, PortField.state) !== EvtchnStatus.unbound) return -1;
      if (portField(domain, guestPort, PortField.remote) !== DOMID_BACKEND) return -1;
      const free = findFreeHostPort(domain);
      if (free < 0) return -1;
      setHostPortField(domain, free, HostPortField.guestPort, guestPort);
      setHostPortField(domain, free, HostPortField.state, EvtchnStatus.interdomain);
      setPortField(domain, guestPort, PortField.remotePort, free);
      setPortField(domain, guestPort, PortField.state, EvtchnStatus.interdomain);
      return free;
    });
    if (hostPort < 0) return undefined;
    return this.#open(hostPort, onEvent);
  }

  /** Opens a host port that the guest may bind to; undefined if none is free. */
  allocUnbound(onEvent: () => void): HostChannel | undefined {
    const domain = this.#domain;
    const hostPort = locked(domain.i32, Field.evtchnLock, () => {
      const free = findFreeHostPort(domain);
      if (free >= 0) setHostPortField(domain, free, HostPortField.state, EvtchnStatus.unbound);
      return free;
    });
    return hostPort < 0 ? undefined : this.#open(hostPort, onEvent);
  }

  #open(hostPort: number, onEvent: () => void): HostChannel {
    this.#handlers.set(hostPort, onEvent);
    return {
      hostPort: hostPort as EvtchnPort,
      notify: () => this.#notify(hostPort),
      close: () => this.#close(hostPort),
    };
  }

  #notify(hostPort: number): void {
    const domain = this.#domain;
    if (hostPortField(domain, hostPort, HostPortField.state) !== EvtchnStatus.interdomain) return;
    setPending(domain, hostPortField(domain, hostPort, HostPortField.guestPort));
  }

  #close(hostPort: number): void {
    const domain = this.#domain;
    if (!this.#handlers.delete(hostPort)) return;
    locked(domain.i32, Field.evtchnLock, () => {
      if (hostPortField(domain, hostPort, HostPortField.state) === EvtchnStatus.interdomain) {
        const guestPort = hostPortField(domain, hostPort, HostPortField.guestPort);
        setPortField(domain, guestPort, PortField.remotePort, 0);
        setPortField(domain, guestPort, PortField.state, EvtchnStatus.unbound);
      }
      setHostPortField(domain, hostPort, HostPortField.guestPort, 0);
      setHostPortField(domain, hostPort, HostPortField.state, EvtchnStatus.closed);
    });
  }

  /** Calls the handlers of all ports that were notified since the last call. Handlers must not throw. */
  dispatch(): void {
    const i32 = this.#domain.i32;
    for (let word = 0; word < MAX_HOST_PORTS / 32; word++) {
      if (i32[HOST_PENDING_AT + word] === 0) continue;
      let bits = Atomics.exchange(i32, HOST_PENDING_AT + word, 0);
      while (bits !== 0) {
        const bit = 31 - Math.clz32(bits);
        bits &= ~(1 << bit);
        this.#handlers.get(word * 32 + bit)?.();
      }
    }
  }

  /** Calls all handlers, for events that a domain's saved state does not tell of. */
  dispatchAll(): void {
    for (const handler of [...this.#handlers.values()]) handler();
  }

  /** Serves events until `stop`; resolves then. */
  async run(): Promise<void> {
    const i32 = this.#domain.i32;
    const waiter = Atomics as unknown as WaitAsync;
    while (!this.#stopped) {
      const wait = waiter.waitAsync(i32, Field.backendDoorbell, this.#seen);
      if (wait.async) await wait.value;
      this.#seen = Atomics.load(i32, Field.backendDoorbell);
      this.dispatch();
      this.#onDoorbell?.();
      // A guest that notifies without pause must not keep timers and sockets of this thread waiting.
      if (!wait.async) await yieldToEventLoop();
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#domain.ringBackends();
  }
}

function yieldToEventLoop(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else setTimeout(resolve, 0);
  });
}
