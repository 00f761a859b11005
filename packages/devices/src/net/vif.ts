/** A guest's network interface: what its two ends tell each other before they connect, and its end of the cable. */
import type { BackendDriver, BackendHost, ConnectContext, Connection, Nodes } from "../xenbus/driver.ts";
import { connectVif, type VifConnection } from "./connection.ts";
import type { Rate } from "./credit.ts";
import { type Frame, type Frames, NO_OFFLOADS, type Offloads } from "./frames.ts";
import { MAX_QUEUES } from "./protocol.ts";

export interface VifConfig {
  /** The first is 0. */
  readonly devid: number;
  /** "00:16:3e:xx:xx:xx" */
  readonly mac: string;
  /** What the guest may send at most. */
  readonly rate?: Rate;
  /** Largest packet on the wire; the guest assumes 1500 if it is not told. */
  readonly mtuBytes?: number;
  /** How many pairs of rings the guest may ask for. */
  readonly maxQueues: number;
  readonly log?: (message: string) => void;
}

/** What went through an interface, as the guest sees it: sent is tx. */
export interface VifCounts {
  txPackets: number;
  txBytes: number;
  txErrors: number;
  rxPackets: number;
  rxBytes: number;
  rxDropped: number;
}

export class VifDriver implements BackendDriver {
  readonly deviceClass = "vif";
  readonly stateVersion = 1;
  readonly counts: VifCounts = { txPackets: 0, txBytes: 0, txErrors: 0, rxPackets: 0, rxBytes: 0, rxDropped: 0 };
  /** The device's end of the cable; what the guest sends goes to its peer. */
  readonly port: Frames;
  readonly #host: BackendHost;
  readonly #config: VifConfig;
  #connection: VifConnection | undefined;

  constructor(host: BackendHost, config: VifConfig) {
    this.#host = host;
    this.#config = config;
    const offloads = (): Offloads => this.#connection?.offloads ?? NO_OFFLOADS;
    this.port = {
      get offloads() {
        return offloads();
      },
      peer: undefined,
      onFrame: (frame: Frame) => this.#connection?.deliver(frame) ?? false,
      onRoom: () => this.#connection?.onRoom(),
    };
  }

  frontendNodes(): Nodes {
    const { devid, mac, mtuBytes } = this.#config;
    return { handle: String(devid), mac, ...(mtuBytes !== undefined && { mtu: String(mtuBytes) }) };
  }

  backendNodes(): Nodes {
    const { devid, mac, maxQueues } = this.#config;
    return {
      handle: String(devid),
      mac,
      "feature-sg": "1",
      "feature-gso-tcpv4": "1",
      "feature-gso-tcpv6": "1",
      "feature-ipv6-csum-offload": "1",
      "feature-rx-copy": "1",
      "feature-rx-flip": "0",
      "feature-multicast-control": "1",
      "feature-split-event-channels": "1",
      "multi-queue-max-queues": String(Math.min(maxQueues, MAX_QUEUES)),
      "hotplug-status": "connected",
    };
  }

  identityNodes(): Nodes {
    return { mac: this.#config.mac };
  }

  connect(context: ConnectContext): Connection {
    const connection = connectVif(this.#host, this.#config, this.port, this.counts, context);
    const close = connection.close.bind(connection);
    connection.close = async () => {
      if (this.#connection === connection) this.#connection = undefined;
      await close();
    };
    this.#connection = connection;
    // Whoever found no guest waits for this.
    setImmediate(() => this.port.peer?.onRoom());
    return connection;
  }
}
