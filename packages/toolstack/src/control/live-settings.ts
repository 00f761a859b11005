/**
 * What a domain has and may be given otherwise while it runs: name, memory, vcpus, weight, cap, processors, disks and network
 * interfaces. What it has by then it has again when it reboots, and where it goes on from a file or on another server.
 */
import { formatMac } from "@xenoserver/network/wire/ethernet.ts";
import {
  CAP,
  type DomainConfig,
  type DomainSpec,
  memoryAtStartMib,
  parseDisk,
  parseVif,
  pinned,
  specOfConfig,
  vcpusAtStart,
  WEIGHT,
  weighed,
} from "../cfg/index.ts";
import { affinityOf } from "../domain/affinity.ts";
import type { RunningDomain } from "../domain/index.ts";
import { cpusOf, repinned } from "./pinning.ts";
import { ControlError } from "./protocol.ts";
import { read } from "./read.ts";

/** The domain that has them. */
export interface ChangeableDomain {
  /** As it runs now; another one after each reboot. */
  running(): RunningDomain;
  /** Its folder in its xenstore. */
  home(): string;
  /** Writes to its xenstore. */
  write(path: string, value: string): void;
  /** Ends a period of its usage. */
  record(cause: string): void;
  log(message: string): void;
  /** @throws ControlError  it has ended */
  refuseEnded(): void;
  /** @throws ControlError  it is on its way to another server, which would not know of a change */
  refuseMoving(): void;
}

const MIB = 2 ** 20;
/** Less would starve any guest. */
const LEAST_MEMORY_BYTES = 4 * MIB;

export class LiveSettings {
  readonly #domain: ChangeableDomain;
  /** As it would be started again: with the devices that it has now. */
  #config: DomainConfig;
  #name: string;
  #memoryTargetBytes: number;
  #vcpusWanted: number;
  /** By vcpu: processors of the host. */
  #affinity: readonly string[];
  #pinning: Promise<void> = Promise.resolve();

  /** @param config  with which it was started; nothing is asked of the domain here, which may not be whole yet */
  constructor(config: DomainConfig, domain: ChangeableDomain) {
    this.#domain = domain;
    this.#config = config;
    this.#name = config.name;
    this.#memoryTargetBytes = memoryAtStartMib(config) * MIB;
    this.#vcpusWanted = vcpusAtStart(config);
    this.#affinity = affinityOf(cpusOf(config));
  }

  /** With which it is started again, under the name that it had first. */
  get config(): DomainConfig {
    return this.#config;
  }

  /** Its configuration as it is now. */
  get spec(): DomainSpec {
    return specOfConfig({ ...this.#config, name: this.#name });
  }

  get name(): string {
    return this.#name;
  }

  /** What its guest was last asked to have; it may still have more. */
  get memoryTargetBytes(): number {
    return this.#memoryTargetBytes;
  }

  /** How many vcpus its guest was last asked to have up. */
  get vcpusWanted(): number {
    return this.#vcpusWanted;
  }

  /** By vcpu: the host's processors where it may run. */
  get affinity(): readonly string[] {
    return this.#affinity;
  }

  /**
   * Takes note that the guest was started anew.
   * @param started  with which that was
   */
  restarted(started: DomainConfig): void {
    // Vcpus that were pinned while it was built.
    if (this.#config.cpus !== started.cpus)
      this.#domain
        .running()
        .pin(cpusOf(this.#config))
        .catch((error: Error) => this.#domain.log(error.message));
    this.#memoryTargetBytes = memoryAtStartMib(this.#config) * MIB;
    this.#vcpusWanted = vcpusAtStart(this.#config);
    if (this.#name !== this.#config.name) this.#showName();
  }

  /** @throws ControlError  it is on its way to another server */
  rename(name: string): void {
    this.#domain.refuseMoving();
    this.#name = name;
    this.#showName();
  }

  /**
   * What it has then, it has again when it reboots.
   * @throws ControlError  more than it may be given, or too little
   */
  setMemory(targetBytes: number): void {
    this.#domain.refuseEnded();
    this.#domain.refuseMoving();
    const mostBytes = this.#config.memoryMib * MIB;
    if (targetBytes < LEAST_MEMORY_BYTES || targetBytes > mostBytes) {
      const range = `${LEAST_MEMORY_BYTES / MIB} to ${mostBytes / MIB} MiB`;
      throw new ControlError("invalid", `memory of ${this.#name}: ${targetBytes / MIB} MiB, expected ${range}`);
    }
    this.#domain.record("memory");
    this.#memoryTargetBytes = targetBytes;
    this.#domain.running().limitMemory(targetBytes);
    this.#domain.write(`${this.#domain.home()}/memory/target`, String(targetBytes / 1024));
    this.#config = { ...this.#config, memoryAtStartMib: Math.ceil(targetBytes / MIB) };
    this.#domain.record("memory");
  }

  /** Kept as `setMemory` is. @throws ControlError  more than it may be given, or none */
  setVcpus(count: number): void {
    this.#domain.refuseEnded();
    this.#domain.refuseMoving();
    const most = this.#config.vcpus;
    if (count < 1 || count > most) {
      throw new ControlError("invalid", `vcpus of ${this.#name}: ${count}, expected 1 to ${most}`);
    }
    this.#domain.record("vcpus");
    this.#vcpusWanted = count;
    for (let id = 0; id < most; id++) {
      this.#domain.write(`${this.#domain.home()}/cpu/${id}/availability`, id < count ? "online" : "offline");
    }
    this.#config = { ...this.#config, vcpusAtStart: count };
    this.#domain.record("vcpus");
  }

  /** Kept as `setMemory` is. @throws ControlError, ConfigError  nothing is changed */
  async setWeight(weight: number): Promise<void> {
    this.#domain.refuseEnded();
    this.#domain.refuseMoving();
    if (weight < WEIGHT.min || weight > WEIGHT.max)
      throw new ControlError("invalid", `weight of ${this.#name}: ${weight}, expected ${WEIGHT.min} to ${WEIGHT.max}`);
    await this.#domain.running().setWeight(weight);
    const { weight: _, ...others } = this.#config;
    this.#config = { ...others, ...weighed(weight) };
  }

  /** Kept as `setMemory` is. @throws ControlError  out of range */
  setCap(percent: number): void {
    this.#domain.refuseEnded();
    this.#domain.refuseMoving();
    if (percent < CAP.min || percent > CAP.max)
      throw new ControlError("invalid", `cap of ${this.#name}: ${percent} %, expected ${CAP.min} to ${CAP.max}`);
    this.#domain.running().setCap(percent);
    const { cap: _, ...others } = this.#config;
    this.#config = percent === 0 ? others : { ...others, cap: percent };
  }

  /**
   * Kept as `setMemory` is. One follows another.
   * @param cpus  as in xl.cfg
   * @throws ControlError, ConfigError  nothing is changed
   */
  pinVcpus(vcpu: number | "all", cpus: string): Promise<void> {
    this.#pinning = this.#pinning.catch(() => {}).then(() => this.#pin(vcpu, cpus));
    return this.#pinning;
  }

  async #pin(vcpu: number | "all", written: string): Promise<void> {
    this.#domain.refuseEnded();
    this.#domain.refuseMoving();
    const before = cpusOf(this.#config);
    const next = repinned(this.#config, this.#name, vcpu, written);
    // Kept first, so that a guest that reboots meanwhile starts with it.
    this.#keepPins(next);
    try {
      await this.#domain.running().pin(next);
    } catch (error) {
      this.#keepPins(before);
      await this.#domain
        .running()
        .pin(before)
        .catch(() => {});
      throw error;
    }
  }

  /** @throws ConfigError  a processor is not there; nothing is changed */
  #keepPins(cpus: readonly string[]): void {
    this.#affinity = affinityOf(cpus);
    const { cpus: _, ...others } = this.#config;
    this.#config = { ...others, ...pinned(cpus) };
  }

  async attachDisk(text: string): Promise<void> {
    this.#domain.refuseEnded();
    this.#domain.refuseMoving();
    const disk = read(`disk ${JSON.stringify(text)}`, () => parseDisk(text));
    await this.#domain.running().attachDisk(disk);
    this.#config = { ...this.#config, disks: [...(this.#config.disks ?? []), disk] };
    this.#domain.record("devices");
  }

  async detachDisk(vdev: string): Promise<boolean> {
    this.#domain.refuseEnded();
    this.#domain.refuseMoving();
    const agreed = await this.#domain.running().detachDisk(vdev);
    this.#config = { ...this.#config, disks: (this.#config.disks ?? []).filter((disk) => disk.vdev !== vdev) };
    this.#domain.record("devices");
    return agreed;
  }

  async attachVif(text: string): Promise<number> {
    this.#domain.refuseEnded();
    this.#domain.refuseMoving();
    const vif = read(`vif ${JSON.stringify(text)}`, () => parseVif(text));
    const devid = await this.#domain.running().attachVif(vif);
    this.#config = { ...this.#config, vifs: [...(this.#config.vifs ?? []), vif] };
    this.#domain.record("devices");
    return devid;
  }

  async detachVif(devid: number): Promise<boolean> {
    this.#domain.refuseEnded();
    this.#domain.refuseMoving();
    const gone = this.#domain
      .running()
      .counters()
      .devices.find((device) => device.kind === "vif" && device.devid === devid);
    const agreed = await this.#domain.running().detachVif(devid);
    const vifs = this.#config.vifs ?? [];
    this.#config = {
      ...this.#config,
      vifs: vifs.filter(({ mac }) => gone?.kind !== "vif" || formatMac(mac) !== gone.mac),
    };
    this.#domain.record("devices");
    return agreed;
  }

  #showName(): void {
    this.#domain.write(`${this.#domain.home()}/name`, this.#name);
    this.#domain.write(`/vm/${this.#config.uuid}/name`, this.#name);
  }
}
