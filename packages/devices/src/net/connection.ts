/** A network interface whose guest is connected: its queues, and the cable's end behind them. */
import type { HostChannel } from "@xenoserver/xen";
import { BackRing, GrantError, mapGrants, RingError, type RingIndices, unmapGrants } from "../ring/index.ts";
import {
  type BackendHost,
  type ConnectContext,
  type Connection,
  DeviceError,
  type FrontendKeys,
} from "../xenbus/driver.ts";
import { Credit } from "./credit.ts";
import type { Frame, Frames, Offloads } from "./frames.ts";
import { MAX_QUEUES, RX_SLOT_BYTES, TX_SLOT_BYTES } from "./protocol.ts";
import { RxQueue } from "./rx.ts";
import { TxQueue } from "./tx.ts";
import type { VifConfig, VifCounts } from "./vif.ts";

/** After so many packets of a guest, others have their turn. */
const MAX_BATCH = 128;
const MAX_GROUPS = 64;

interface QueueState {
  readonly txRef: number;
  readonly rxRef: number;
  readonly txPort: number;
  readonly rxPort: number;
  readonly tx: RingIndices;
  readonly rx: RingIndices;
}

export interface SavedVif {
  readonly queues: readonly QueueState[];
  readonly offloads: Offloads;
  readonly filtersGroups: boolean;
  readonly groups: readonly number[];
}

interface Queue {
  readonly state: Omit<QueueState, "tx" | "rx">;
  readonly txRing: BackRing;
  readonly rxRing: BackRing;
  readonly tx: TxQueue;
  readonly rx: RxQueue;
  readonly txChannel: HostChannel;
  readonly rxChannel: HostChannel;
  readonly release: () => void;
}

/** What the device's end of the cable needs of its connection. */
export interface VifConnection extends Connection {
  readonly offloads: Offloads;
  /** @returns false if there was no room */
  deliver(frame: Frame): boolean;
  /** The network has room again. */
  onRoom(): void;
}

/** @throws DeviceError  what the guest published cannot be used; nothing stays mapped */
export function connectVif(
  host: BackendHost,
  config: VifConfig,
  port: Frames,
  counts: VifCounts,
  context: ConnectContext,
): VifConnection {
  const saved = context.saved as SavedVif | undefined;
  const wanted = saved ?? readFrontend(context.frontend, context.name, config.maxQueues);
  return new ConnectedVif(host, config, port, counts, context, wanted);
}

const MAX_U32 = 0xffffffff;

function readFrontend(frontend: FrontendKeys, name: string, maxQueues: number): SavedVif {
  const flag = (key: string): boolean => frontend.readUnsigned(key, { max: 1, absent: 0 }) === 1;
  if (!flag("request-rx-copy")) throw new DeviceError(`${name}: request-rx-copy is not set, expected 1`);
  const count = frontend.readUnsigned("multi-queue-num-queues", {
    min: 1,
    max: Math.min(maxQueues, MAX_QUEUES),
    absent: 1,
  });
  const queues = Array.from({ length: count }, (_, n): QueueState => {
    const at = count === 1 ? "" : `queue-${n}/`;
    const number = (key: string): number => frontend.readUnsigned(`${at}${key}`, { max: MAX_U32 });
    const split = frontend.read(`${at}event-channel`) === undefined;
    const start = { reqCons: 0, rspProd: 0 };
    return {
      txRef: number("tx-ring-ref"),
      rxRef: number("rx-ring-ref"),
      txPort: number(split ? "event-channel-tx" : "event-channel"),
      rxPort: number(split ? "event-channel-rx" : "event-channel"),
      tx: start,
      rx: start,
    };
  });
  const scatters = flag("feature-sg");
  const offloads = {
    blankIpv4: !flag("feature-no-csum-offload"),
    blankIpv6: flag("feature-ipv6-csum-offload"),
    segmentsIpv4: scatters && flag("feature-gso-tcpv4"),
    segmentsIpv6: scatters && flag("feature-gso-tcpv6"),
  };
  return { queues, offloads, filtersGroups: flag("request-multicast-control"), groups: [] };
}

class ConnectedVif implements VifConnection {
  readonly offloads: Offloads;
  readonly #name: string;
  readonly #config: VifConfig;
  readonly #port: Frames;
  readonly #counts: VifCounts;
  readonly #fail: (error: DeviceError) => void;
  readonly #queues: Queue[] = [];
  readonly #filtersGroups: boolean;
  readonly #groups: Set<number>;
  readonly #credit: Credit | undefined;
  #creditTimer: NodeJS.Timeout | undefined;
  /** A frame that the network had no room for; the guest's next ones wait in the ring. */
  #held: Frame | undefined;
  #refusedPeer = false;
  #again: NodeJS.Immediate | undefined;
  #paused = false;
  #closed = false;
  #complained = false;

  constructor(
    host: BackendHost,
    config: VifConfig,
    port: Frames,
    counts: VifCounts,
    context: ConnectContext,
    wanted: SavedVif,
  ) {
    this.#name = context.name;
    this.#config = config;
    this.#port = port;
    this.#counts = counts;
    this.#fail = context.fail;
    this.offloads = wanted.offloads;
    this.#filtersGroups = wanted.filtersGroups;
    this.#groups = new Set(wanted.groups);
    this.#credit = config.rate && new Credit(config.rate, performance.now());
    try {
      for (const state of wanted.queues) this.#queues.push(this.#openQueue(host, state));
    } catch (error) {
      for (const queue of this.#queues) queue.release();
      throw error instanceof GrantError ? new DeviceError(`${this.#name}: ${error.message}`) : error;
    }
    this.#serveSoon();
  }

  #openQueue(host: BackendHost, state: QueueState): Queue {
    const channels: HostChannel[] = [];
    const pages = mapGrants(host.grants, [state.txRef, state.rxRef], true);
    const release = (): void => {
      for (const channel of channels) channel.close();
      unmapGrants(pages);
    };
    const bind = (guestPort: number): HostChannel => {
      const channel = host.channels.bindInterdomain(guestPort, () => this.#serve());
      if (channel === undefined) {
        release();
        throw new DeviceError(`${this.#name}: event channel ${guestPort} is not offered to domain 0`);
      }
      channels.push(channel);
      return channel;
    };
    const txChannel = bind(state.txPort);
    const rxChannel = state.rxPort === state.txPort ? txChannel : bind(state.rxPort);
    const txRing = new BackRing([pages[0]], TX_SLOT_BYTES, state.tx);
    const rxRing = new BackRing([pages[1]], RX_SLOT_BYTES, state.rx);
    const listener = {
      onJoin: (group: number): boolean => {
        if (this.#groups.size >= MAX_GROUPS) return false;
        this.#groups.add(group);
        return true;
      },
      onLeave: (group: number): void => void this.#groups.delete(group),
      onRefused: (reason: string): void => this.#refused(reason),
    };
    const { txRef, rxRef, txPort, rxPort } = state;
    return {
      state: { txRef, rxRef, txPort, rxPort },
      txRing,
      rxRing,
      tx: new TxQueue(txRing, host.grants, listener),
      rx: new RxQueue(rxRing, host.grants),
      txChannel,
      rxChannel,
      release,
    };
  }

  /** Named once: a guest can send as many as it likes. */
  #refused(reason: string): void {
    this.#counts.txErrors++;
    if (this.#complained) return;
    this.#complained = true;
    this.#config.log?.(`${this.#name}: refused ${reason}`);
  }

  /** Serves all rings. Never throws; a ring that makes no sense closes the device. */
  #serve(): void {
    if (this.#closed || this.#paused) return;
    try {
      for (const queue of this.#queues) {
        this.#transmit(queue);
        this.#receive(queue);
      }
    } catch (error) {
      if (!(error instanceof RingError)) throw error;
      this.#closed = true;
      this.#fail(new DeviceError(`${this.#name}: ${error.message}`));
      return;
    }
    if (this.#refusedPeer && this.#queues.every(({ rx }) => rx.hasRoom)) {
      this.#refusedPeer = false;
      this.#port.peer?.onRoom();
    }
  }

  #serveSoon(): void {
    this.#again ??= setImmediate(() => {
      this.#again = undefined;
      this.#serve();
    });
  }

  /** From the guest to the network. */
  #transmit({ tx, txRing, txChannel }: Queue): void {
    let batch = 0;
    while (this.#maySend() && (txRing.waiting > 0 || txRing.finalCheck())) {
      if (batch++ === MAX_BATCH) {
        this.#serveSoon();
        break;
      }
      const frame = tx.take();
      if (frame !== undefined) this.#send(frame);
    }
    if (txRing.push()) txChannel.notify();
  }

  #maySend(): boolean {
    if (this.#held !== undefined) return false;
    const delayMs = this.#credit?.delayMs(performance.now()) ?? 0;
    if (delayMs === 0) return true;
    this.#creditTimer ??= setTimeout(() => {
      this.#creditTimer = undefined;
      this.#serve();
    }, delayMs);
    return false;
  }

  #send(frame: Frame): void {
    this.#counts.txPackets++;
    this.#counts.txBytes += frame.bytes.length;
    this.#credit?.spend(frame.bytes.length);
    if (this.#port.peer?.onFrame(frame) === false) this.#held = frame;
  }

  onRoom(): void {
    const held = this.#held;
    if (held === undefined) return;
    this.#held = undefined;
    if (this.#port.peer?.onFrame(held) === false) this.#held = held;
    else this.#serve();
  }

  /** From the network to the guest. */
  #receive({ rx, rxChannel }: Queue): void {
    if (!rx.isEmpty && rx.flush()) rxChannel.notify();
  }

  deliver(frame: Frame): boolean {
    if (this.#closed) return false;
    if (this.#filtersGroups && this.#isStrangeGroup(frame.bytes)) return true;
    const queue =
      this.#queues.length === 1 ? this.#queues[0] : this.#queues[flowHash(frame.bytes) % this.#queues.length];
    if (!queue.rx.hasRoom) {
      this.#refusedPeer = true;
      this.#counts.rxDropped++;
      return false;
    }
    this.#counts.rxPackets++;
    this.#counts.rxBytes += frame.bytes.length;
    queue.rx.add(frame);
    if (this.#paused) return true;
    try {
      this.#receive(queue);
    } catch (error) {
      if (!(error instanceof RingError)) throw error;
      this.#closed = true;
      this.#fail(new DeviceError(`${this.#name}: ${error.message}`));
    }
    return true;
  }

  /** A group other than all stations that the guest has not joined. */
  #isStrangeGroup(bytes: Uint8Array): boolean {
    if ((bytes[0] & 1) === 0) return false;
    const group = Buffer.from(bytes.buffer, bytes.byteOffset, 6).readUIntBE(0, 6);
    return group !== 0xffffffffffff && !this.#groups.has(group);
  }

  pause(): void {
    this.#paused = true;
  }

  async paused(): Promise<void> {
    // What was taken has been copied and answered: nothing of the guest is in use.
  }

  resume(): void {
    this.#paused = false;
    this.#serve();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#creditTimer);
    clearImmediate(this.#again);
    for (const queue of this.#queues) queue.release();
  }

  exportState(): SavedVif {
    return {
      queues: this.#queues.map(({ state, txRing, rxRing }) => ({ ...state, tx: txRing.indices, rx: rxRing.indices })),
      offloads: this.offloads,
      filtersGroups: this.#filtersGroups,
      groups: [...this.#groups],
    };
  }
}

/** Equal for packets of one flow: addresses and ports of IPv4 without options, else just the stations. */
function flowHash(bytes: Uint8Array): number {
  const isIpv4 = bytes.length >= 38 && bytes[12] === 0x08 && bytes[13] === 0x00;
  let hash = 0;
  for (let at = isIpv4 ? 26 : 0, end = isIpv4 ? 38 : 12; at < end; at++) hash = (hash * 31 + bytes[at]) >>> 0;
  return (hash ^ (hash >>> 16)) >>> 0;
}
