/**
 * Consoles beside the first: hvc1 and so on. They appear as devices of class "console" and carry bytes for whoever is at the
 * other end, which the guest knows by its name.
 * @see xen/include/public/io/console.h; Linux, drivers/tty/hvc/hvc_xen.c
 */
import type { HostChannel, MappedGrant } from "@xenoserver/xen";
import { GrantError, mapGrants, unmapGrants } from "../ring/index.ts";
import {
  type BackendDriver,
  type BackendHost,
  type ConnectContext,
  type Connection,
  DeviceError,
  type Nodes,
} from "../xenbus/index.ts";
import { ConsoleBackend, type ConsoleState } from "./backend.ts";

export interface ConsoleChannelConfig {
  /** By which a guest finds it: "org.xenoserver.agent". */
  readonly name: string;
  /** Takes what the guest wrote; the bytes are the consumer's to keep. Must not throw. */
  onOutput(bytes: Uint8Array): void;
}

const MAX_PORT = 0xffffffff;
const MAX_GRANT_REF = 0xffffffff;

/** One console; a guest that connects again begins with what then is sent. */
export class ConsoleDriver implements BackendDriver {
  readonly deviceClass = "console";
  readonly stateVersion = 1;
  readonly #host: BackendHost;
  readonly #config: ConsoleChannelConfig;
  #connection: ConsoleConnection | undefined;
  #waiting: Uint8Array[] = [];

  constructor(host: BackendHost, config: ConsoleChannelConfig) {
    this.#host = host;
    this.#config = config;
  }

  frontendNodes(): Nodes {
    return { name: this.#config.name, type: "xenconsoled", protocol: "vt100" };
  }

  backendNodes(): Nodes {
    return { name: this.#config.name, protocol: "vt100" };
  }

  /** Queues bytes for the guest; they are lost if it lets go of the console before it has read them. */
  send(bytes: Uint8Array): void {
    this.#waiting.push(bytes);
    this.flush();
  }

  flush(): void {
    const connection = this.#connection;
    while (connection !== undefined) {
      // Taken out first: writing may report that there is room, which leads here again.
      const bytes = this.#waiting.shift();
      if (bytes === undefined) return;
      if (connection.write(bytes)) continue;
      this.#waiting.unshift(bytes);
      return;
    }
  }

  connect({ frontend, name, saved }: ConnectContext): Connection {
    const { grants, channels, log } = this.#host;
    const ref = frontend.readUnsigned("ring-ref", { max: MAX_GRANT_REF });
    const port = frontend.readUnsigned("port", { max: MAX_PORT });
    let page: MappedGrant;
    try {
      page = mapGrants(grants, [ref], true)[0]!;
    } catch (error) {
      throw error instanceof GrantError ? new DeviceError(`${name}: ring-ref: ${error.message}`) : error;
    }
    const channel = channels.bindInterdomain(port, () => connection.onEvent());
    if (channel === undefined) {
      unmapGrants([page]);
      throw new DeviceError(`${name}: port is ${port}, expected one that is offered to domain 0`);
    }
    const connection: ConsoleConnection = new ConsoleConnection(page, channel, {
      name,
      log,
      onOutput: (bytes) => this.#config.onOutput(bytes),
      onInputDrained: () => this.flush(),
      onClose: () => {
        this.#connection = undefined;
        this.#waiting = [];
      },
    });
    if (saved !== undefined) connection.importState(saved as ConsoleState);
    this.#connection = connection;
    // What the guest wrote before we were there to be notified, and what waits for it.
    setImmediate(() => {
      connection.onEvent();
      this.flush();
    });
    return connection;
  }
}

interface ConsoleConnectionConfig {
  readonly name: string;
  readonly log: (message: string) => void;
  onOutput(bytes: Uint8Array): void;
  onInputDrained(): void;
  onClose(): void;
}

class ConsoleConnection implements Connection {
  readonly #backend: ConsoleBackend;
  readonly #page: MappedGrant;
  readonly #channel: HostChannel;
  readonly #onClose: () => void;
  #paused = false;
  #closed = false;

  constructor(page: MappedGrant, channel: HostChannel, { onClose, ...config }: ConsoleConnectionConfig) {
    this.#page = page;
    this.#channel = channel;
    this.#onClose = onClose;
    this.#backend = new ConsoleBackend({
      ...config,
      page: page.bytes,
      notify: () => channel.notify(),
      markWritten: () => page.markWritten(),
    });
  }

  onEvent(): void {
    if (!this.#paused && !this.#closed) this.#backend.onEvent();
  }

  /** @returns false if there is no room for more now */
  write(bytes: Uint8Array): boolean {
    return !this.#paused && !this.#closed && this.#backend.write(bytes);
  }

  pause(): void {
    this.#paused = true;
  }

  async paused(): Promise<void> {}

  resume(): void {
    this.#paused = false;
    this.onEvent();
  }

  async close(): Promise<void> {
    // Its last words may have arrived after its last notification was seen.
    this.onEvent();
    this.#closed = true;
    this.#channel.close();
    this.#page.unmap();
    this.#onClose();
  }

  exportState(): ConsoleState {
    return this.#backend.exportState();
  }

  importState(state: ConsoleState): void {
    this.#backend.importState(state);
  }
}
