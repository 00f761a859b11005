/** An Ethernet switch: learns which stations are behind which port, and floods what it does not know. */
import { ALL_OFFLOADS, type Frame, type Frames, type Offloads, unplug } from "@xenoserver/devices/net/frames.ts";
import { deliver } from "../offload/finish.ts";
import { destinationOf, ETHERNET_BYTES, isGroup, isStation, type Mac, sourceOf } from "../wire/ethernet.ts";

export interface SwitchLimits {
  readonly ports: number;
  /** Stations remembered of one port, so that one cannot push out the others'. */
  readonly stationsPerPort: number;
  readonly forgetMs: number;
}

export const SWITCH_LIMITS: SwitchLimits = { ports: 256, stationsPerPort: 256, forgetMs: 300_000 };

/** IEEE 802.1D: groups that end at the next bridge. */
const LINK_LOCAL_GROUPS = 0x0180c2000000;

export class EthernetSwitch {
  readonly #limits: SwitchLimits;
  readonly #ports = new Set<SwitchPort>();
  readonly #stations = new Map<Mac, { port: SwitchPort; seenMs: number }>();

  constructor(limits: SwitchLimits = SWITCH_LIMITS) {
    this.#limits = limits;
  }

  get ports(): number {
    return this.#ports.size;
  }

  get stations(): number {
    return this.#stations.size;
  }

  /** @throws RangeError  there are as many ports as there may be */
  addPort(): Frames {
    if (this.#ports.size >= this.#limits.ports) {
      throw new RangeError(`the switch has ${this.#ports.size} ports, expected fewer than ${this.#limits.ports}`);
    }
    const port: SwitchPort = new SwitchPort(
      (frame) => this.#forward(port, frame),
      () => this.#removePort(port),
    );
    this.#ports.add(port);
    return port;
  }

  #removePort(port: SwitchPort): void {
    this.#ports.delete(port);
    for (const [mac, station] of this.#stations) if (station.port === port) this.#stations.delete(mac);
  }

  #forward(from: SwitchPort, frame: Frame): void {
    const { bytes } = frame;
    if (bytes.length < ETHERNET_BYTES) return;
    this.#learn(from, sourceOf(bytes));
    const to = destinationOf(bytes);
    if (to >= LINK_LOCAL_GROUPS && to < LINK_LOCAL_GROUPS + 16) return;
    const known = isGroup(to) ? undefined : this.#lookUp(to);
    if (known !== undefined) {
      if (known !== from) known.give(frame);
      return;
    }
    for (const port of this.#ports) if (port !== from) port.give(frame);
  }

  #learn(port: SwitchPort, mac: Mac): void {
    if (!isStation(mac)) return;
    const known = this.#stations.get(mac);
    const seenMs = performance.now();
    if (known?.port === port) {
      known.seenMs = seenMs;
      return;
    }
    if (port.stations >= this.#limits.stationsPerPort) {
      this.#forgetOld(seenMs);
      if (port.stations >= this.#limits.stationsPerPort) return;
    }
    if (known !== undefined) known.port.stations--;
    port.stations++;
    this.#stations.set(mac, { port, seenMs });
  }

  #lookUp(mac: Mac): SwitchPort | undefined {
    const known = this.#stations.get(mac);
    if (known === undefined || performance.now() - known.seenMs <= this.#limits.forgetMs) return known?.port;
    known.port.stations--;
    this.#stations.delete(mac);
    return undefined;
  }

  #forgetOld(nowMs: number): void {
    for (const [mac, { port, seenMs }] of this.#stations) {
      if (nowMs - seenMs <= this.#limits.forgetMs) continue;
      port.stations--;
      this.#stations.delete(mac);
    }
  }

  /** Pulls all cables. */
  close(): void {
    for (const port of [...this.#ports]) unplug(port);
    this.#ports.clear();
    this.#stations.clear();
  }
}

class SwitchPort implements Frames {
  readonly offloads: Offloads = ALL_OFFLOADS;
  peer: Frames | undefined;
  stations = 0;
  /** Frames that found no room behind this port. */
  dropped = 0;
  readonly #forward: (frame: Frame) => void;
  readonly #remove: () => void;

  constructor(forward: (frame: Frame) => void, remove: () => void) {
    this.#forward = forward;
    this.#remove = remove;
  }

  onFrame(frame: Frame): boolean {
    this.#forward(frame);
    return true;
  }

  /** A switch keeps nothing: what finds no room is lost. */
  give(frame: Frame): void {
    if (this.peer !== undefined && !deliver(frame, this.peer)) this.dropped++;
  }

  onRoom(): void {}

  onUnplug(): void {
    this.#remove();
  }
}
