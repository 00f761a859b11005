/** The devices of a domain: opened before it is built, and started, found, added and taken away together. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  type BackendDriver,
  type BackendHost,
  type BlockStore,
  type DeviceClass,
  type Nodes,
  type SavedDevice,
  XenbusBackend,
} from "@xenoserver/devices";
import { ConfigError, type DiskSpec, type DomainConfig, type RenewedVif } from "../cfg/index.ts";
import { vdevNumber } from "../cfg/vdev.ts";
import type { LeaveOptions, LeavingDisk } from "../migrate/leaving.ts";
import { addTraffic, type DeviceCounters, type DeviceReport, NO_TRAFFIC, type Traffic, trafficOf } from "./counters.ts";

/** A device whose host side is open: a disk's file, a network's socket. */
export interface PreparedDevice {
  readonly deviceClass: DeviceClass;
  readonly devid: number;
  /** Makes what serves the guest. Called at most once. */
  driver(host: BackendHost): BackendDriver;
  /**
   * Makes a disk larger.
   * @returns what the guest is told of it then
   */
  grow?(sizeBytes: number): Promise<Nodes>;
  /** What the device has done since it was attached; counts only grow. Without, nobody pays for it. */
  counters?(): DeviceCounters;
  /** Has what the guest wrote lie where it is kept. */
  flush?(): Promise<void>;
  /** Lets another host have what only one may, a disk's file or a port; nothing is in flight then. @throws Error  it cannot be kept safe */
  release?(): Promise<void>;
  /**
   * Keeps what the device holds at this moment for a copy of the domain; nothing is in flight. Without, the copy has it as it is.
   * @returns  waits until it is kept, and gives it as the copy's configuration has it
   * @throws ConfigError  it cannot be kept
   */
  freeze?(): Promise<() => Promise<DiskSpec>>;
  /**
   * A disk as it would go along to another server: from now on, what is written to it is noted. Undefined for one that is not to go.
   */
  leave?(options: LeaveOptions): Promise<LeavingDisk | undefined>;
  /** Takes it again; nothing happens if it was not released. @throws ConfigError  it cannot be had any more */
  retake?(): Promise<void>;
  /** Gives back what is open. Called once, when the device has stopped or will not be started; never rejects. */
  close(): Promise<void>;
}

/**
 * Opens the host's side of all devices that a configuration names.
 * @throws ConfigError  naming the device that cannot be had; nothing stays open then
 */
export function prepareDevices(config: DomainConfig, options: PrepareOptions = {}): Promise<PreparedDevice[]> {
  return patiently(options.patienceMs ?? 0, () => openDevices(config, options));
}

/**
 * What the disks on images have to be: new, since what the domain once wrote to one of that name does not belong to its memory; or known, since
 * its memory belongs to what it wrote. Without, one that is not there is made.
 */
export type DisksOnImages = "new" | "known";

export interface PrepareOptions {
  /** How long a device that another domain has is asked for again. */
  readonly patienceMs?: number;
  readonly disks?: DisksOnImages;
  /** A disk that is open already. */
  readonly diskOf?: (vdev: string) => BlockStore | undefined;
  /** Interfaces whose guest goes on with another's addresses. */
  readonly renewed?: readonly RenewedVif[];
}

/** Tries again while what is wanted is in use. */
async function patiently<T>(patienceMs: number, use: () => Promise<T>): Promise<T> {
  for (const until = performance.now() + patienceMs; ; await sleep(HANDOVER_POLL_MS)) {
    try {
      return await use();
    } catch (error) {
      if (!isTaken(error) || performance.now() > until) throw error;
    }
  }
}
const HANDOVER_POLL_MS = 3;
/** A disk's file, or a port of the host. */
const IN_USE = /is in use by another domain|another program listens there/;
const isTaken = (error: unknown): boolean =>
  error instanceof ConfigError && error.message.split("\n").every((line) => IN_USE.test(line));

/**
 * Looks whether a domain's devices could be had here, while it still runs elsewhere: what that holds may be in use.
 * @throws ConfigError  one cannot be had, whoever lets go of it
 */
export async function checkDevices(config: DomainConfig): Promise<void> {
  try {
    await closeDevices(await openDevices(config, { disks: "known" }));
  } catch (error) {
    if (!isTaken(error)) throw error;
  }
}

async function openDevices(config: DomainConfig, options: PrepareOptions): Promise<PreparedDevice[]> {
  const openers = devicesOf(config, options);
  const results = await Promise.allSettled(openers.map((open) => open()));
  const opened = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const failures = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
  if (failures.length === 0) return opened;
  await closeDevices(opened);
  const foreign = failures.find((failure) => !(failure instanceof ConfigError));
  if (foreign !== undefined) throw foreign;
  throw new ConfigError(failures.map((failure) => (failure as ConfigError).message).join("\n"));
}

/** One function for each device, which opens it. Classes of devices add theirs here. */
function devicesOf(
  { name, disks = [], vifs = [], p9s = [], vcpus }: DomainConfig,
  options: PrepareOptions,
): (() => Promise<PreparedDevice>)[] {
  return [
    ...disks.map((disk) => async () => (await diskModule()).prepareDisk(disk, name, vcpus, options)),
    ...vifs.map(
      (vif, devid) => async () =>
        (await vifModule()).prepareVif(
          vif,
          devid,
          vcpus,
          options.renewed?.some((renewed) => renewed.devid === devid),
        ),
    ),
    ...p9s.map((share, devid) => async () => (await p9Module()).prepareP9(share, devid)),
  ];
}

/** Loaded for domains that have disks only. */
export const diskModule = () => import("./disks.ts");
/** Loaded for domains that have interfaces only. */
export const vifModule = () => import("./vifs.ts");

/** Loaded for domains that share folders only. */
const p9Module = () => import("./p9s.ts");

/** @throws ConfigError  there is no disk of such a name */
export function diskNumber(vdev: string): number {
  const devid = vdevNumber(vdev);
  if (devid === undefined) throw new ConfigError(`disk ${vdev}: expected a name such as xvda`);
  return devid;
}

export async function closeDevices(prepared: readonly PreparedDevice[]): Promise<void> {
  await Promise.all(prepared.map((device) => device.close()));
}

interface Attached {
  readonly prepared: PreparedDevice;
  readonly backend: XenbusBackend;
}

/** How long a guest may take to let go of a device. */
const UNPLUG_GRACE_MS = 10_000;

export class DomainDevices {
  readonly #host: BackendHost;
  readonly #attached = new Map<string, Attached>();
  /** Of devices that were taken away. */
  #pastTraffic: Traffic = NO_TRAFFIC;

  constructor(host: BackendHost) {
    this.#host = host;
  }

  /**
   * Lets the guest see a device.
   * @param saved  what its backend exported, if it goes on from there
   * @throws ConfigError  there is one with its number; the caller closes it
   */
  attach(prepared: PreparedDevice, saved?: SavedDevice): XenbusBackend {
    const { deviceClass, devid } = prepared;
    const key = `${deviceClass}/${devid}`;
    if (this.#attached.has(key)) throw new ConfigError(`${deviceClass} ${devid} is there already`);
    const backend = new XenbusBackend(this.#host, prepared.driver(this.#host), devid);
    if (saved !== undefined) backend.importState(saved);
    this.#attached.set(key, { prepared, backend });
    backend.start();
    return backend;
  }

  /**
   * Takes a device away, with the guest's consent if it gives it in time.
   * @returns     whether the guest let go by itself
   * @throws ConfigError  there is no such device
   */
  async detach(deviceClass: DeviceClass, devid: number): Promise<boolean> {
    const { backend, prepared } = this.#find(deviceClass, devid);
    const agreed = await backend.unplug(UNPLUG_GRACE_MS);
    this.#attached.delete(`${deviceClass}/${devid}`);
    const counters = prepared.counters?.();
    if (counters !== undefined) this.#pastTraffic = addTraffic(this.#pastTraffic, trafficOf(counters));
    await prepared.close();
    return agreed;
  }

  #find(deviceClass: DeviceClass, devid: number): Attached {
    const found = this.#attached.get(`${deviceClass}/${devid}`);
    if (found === undefined) throw new ConfigError(`${deviceClass} ${devid} is not there`);
    return found;
  }

  /**
   * Makes a disk larger while it is in use, and tells the guest.
   * @throws ConfigError  there is no such disk, or it cannot become so large
   */
  async grow(deviceClass: DeviceClass, devid: number, sizeBytes: number): Promise<void> {
    const { backend, prepared } = this.#find(deviceClass, devid);
    if (prepared.grow === undefined)
      throw new ConfigError(`${deviceClass} ${devid} cannot be made larger while it is in use`);
    backend.announce(await prepared.grow(sizeBytes));
  }

  /** The first number of a class that no device has. */
  freeNumber(deviceClass: DeviceClass): number {
    for (let devid = 0; ; devid++) if (!this.#attached.has(`${deviceClass}/${devid}`)) return devid;
  }

  /** The devices that are there, in the order in which they came. */
  get all(): readonly XenbusBackend[] {
    return [...this.#attached.values()].map(({ backend }) => backend);
  }

  /** What each device that is there has done, and all that ever were. */
  counters(): DeviceReport {
    const devices = [...this.#attached.values()].flatMap(({ prepared }) => prepared.counters?.() ?? []);
    return { devices, traffic: devices.map(trafficOf).reduce(addTraffic, this.#pastTraffic) };
  }

  /** Lets all devices of a class take no more from the guest, and ends what is in flight. */
  async hold(deviceClass: DeviceClass): Promise<void> {
    const held = [...this.#attached.values()].filter(({ prepared }) => prepared.deviceClass === deviceClass);
    for (const { backend } of held) backend.pause();
    await Promise.all(held.map(({ backend }) => backend.paused()));
  }

  /** Disks that can go along to another server. */
  async leave(options: LeaveOptions): Promise<LeavingDisk[]> {
    const results = await Promise.allSettled(this.#prepared.map((device) => device.leave?.(options)));
    const disks = results.flatMap((result) => (result.status === "fulfilled" && result.value ? [result.value] : []));
    const failed = results.find((result) => result.status === "rejected");
    if (failed === undefined) return disks;
    await Promise.all(disks.map((disk) => disk.stay()));
    throw failed.reason;
  }

  async flush(): Promise<void> {
    await Promise.all(this.#prepared.map((device) => device.flush?.()));
  }
  /** Lets another host have them; their backends must be paused. @throws Error  one cannot be let go; `retake` then */
  async release(): Promise<void> {
    await Promise.all(this.#prepared.map((device) => device.release?.()));
  }
  /** @param patienceMs  as for `prepareDevices` @throws ConfigError  one cannot be had any more; may be tried again */
  async retake(patienceMs: number): Promise<void> {
    await patiently(patienceMs, async () => {
      for (const device of this.#prepared) await device.retake?.();
    });
  }

  /**
   * Keeps what disks hold at this moment; their backends must be paused.
   * @returns  waits until it is kept, and gives the disks as a copy's configuration has them
   * @throws ConfigError  a disk cannot be kept
   */
  async freeze(): Promise<() => Promise<DiskSpec[]>> {
    const kept = await Promise.all(this.#prepared.flatMap((device) => device.freeze?.() ?? []));
    return () => Promise.all(kept.map((finish) => finish()));
  }

  get #prepared(): PreparedDevice[] {
    return [...this.#attached.values()].map(({ prepared }) => prepared);
  }

  /** Ends all of them for good. */
  async stop(): Promise<void> {
    const attached = [...this.#attached.values()];
    await Promise.all(
      attached.map(async ({ backend, prepared }) => {
        await backend.stop();
        await prepared.close();
      }),
    );
  }
}
