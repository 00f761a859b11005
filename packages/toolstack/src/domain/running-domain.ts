/** What a running domain looks like to whoever started it. */
import type { Duplex } from "node:stream";
import type { WasmEngineOptions } from "@xenoserver/cpu";
import type { LocalClient } from "@xenoserver/xenstore";
import type { GuestAgent } from "../agent/index.ts";
import type { DiskSpec, DomainSpec, VifSpec } from "../cfg/index.ts";
import type { Hand, LeaveOptions, MigrationProgress, MigrationReport } from "../migrate/index.ts";
import type { SavedFile } from "../save/index.ts";
import type { SnapshotProgress, SnapshotReport } from "../snapshot/take.ts";
import type { DomainCounters } from "./counters.ts";
import type { SharedThreads } from "./shared-threads.ts";

export interface DomainListener {
  /**
   * Takes what the guest wrote to its console; the array is the listener's to keep. While a returned promise is
   * pending, further output stays with the guest, which waits as it would for a slow serial line.
   */
  onConsole(bytes: Uint8Array): void | Promise<void>;
  /** Takes a message of the hypervisor, one line or more; for a person who looks for a fault. */
  onLog?(message: string): void;
}

export interface RunningDomain {
  /** The number by which its xenstore and the guest itself know it. */
  readonly domid: number;
  /** A privileged client of the domain's xenstore; usable until `exited` settles. */
  readonly store: LocalClient;
  /**
   * Types bytes at the guest's console.
   * @returns settled when there is room for more, so that a writer can keep its pace; never rejects
   */
  writeConsole(bytes: Uint8Array): Promise<void>;
  /**
   * Gives the domain another disk while it runs.
   * @throws ConfigError  the disk cannot be opened, or there is one of its name
   */
  attachDisk(disk: DiskSpec): Promise<void>;
  /**
   * Takes a disk away. A guest that has it mounted may refuse to let go, and is not waited for longer than ten seconds.
   * @returns whether the guest let go by itself
   * @throws  ConfigError  there is no such disk
   */
  detachDisk(vdev: string): Promise<boolean>;
  /** Makes a disk larger while it is in use. @throws ConfigError  there is none, or it cannot become so large */
  growDisk(vdev: string, sizeBytes: number): Promise<void>;
  /**
   * Gives the domain another network interface while it runs.
   * @returns its number
   * @throws  ConfigError  its network cannot be had
   */
  attachVif(vif: VifSpec): Promise<number>;
  /** Takes an interface away. @returns, @throws as `detachDisk` */
  detachVif(devid: number): Promise<boolean>;
  /**
   * Commands and files in the guest. The first call gives the guest the line that its agent answers on; wait for `ready`.
   * @see packages/toolstack/src/agent
   */
  agent(): Promise<GuestAgent>;
  readonly isPaused: boolean;
  /**
   * Stops all vcpus between two instructions. Backends finish what they have begun; time goes on, as under Xen.
   * @returns settled when the last vcpu stands still; a domain that is paused stays so
   */
  pause(): Promise<void>;
  /**
   * Writes all of a domain that is paused to a file, from which `LaunchOptions.from` takes it up. It stays paused.
   * @param onProgress  as of `writeSaved`
   * @param onWhole     likewise
   * @param spec  its configuration as it is now
   * @returns     bytes before compression
   * @throws SaveError  the file cannot be written; nothing is left of it then
   */
  save(
    path: string,
    spec: DomainSpec,
    onProgress?: (share: number) => void,
    onWhole?: (bytes: number) => void,
  ): Promise<number>;
  /**
   * Writes all of a domain to a file as it is at a moment, while it runs on. What its disks hold is not part of that.
   * @param spec  its configuration as it is now
   * @throws SaveError  the file cannot be written; nothing is left of it then, and the domain runs on
   */
  snapshot(
    path: string,
    spec: DomainSpec,
    onProgress?: (progress: SnapshotProgress) => void,
    hand?: Hand,
  ): Promise<SnapshotReport>;
  /**
   * Sends the domain to another server while it runs. It stands still then, and is to be destroyed.
   * @param link  to an `ArrivingDomain`
   * @param spec  its configuration as it is now
   * @throws SaveError         it runs on here
   * @throws MigrationInDoubt  it stands still here, and may run there
   * @throws MigrationTorn     it stands still here, and runs there without some of its memory
   */
  migrate(
    link: Duplex,
    spec: DomainSpec,
    options?: LeaveOptions,
    onProgress?: (progress: MigrationProgress) => void,
    hand?: Hand,
  ): Promise<MigrationReport>;
  /** After a migration in doubt, when it was found to run there: removes the disks that went along. It stands still here. */
  removeLuggage(): Promise<void>;
  /**
   * Lets the vcpus run on; nothing happens if they do.
   * @throws ConfigError  it was to be moved, and its devices cannot be had any more; it stays paused
   */
  unpause(): Promise<void>;
  /** How many bytes of memory the guest may own from now on, at most what it was built with; it has to give back by itself what it has. */
  limitMemory(limitBytes: number): void;
  /** How much its vcpus may take together from now on, in percent of one processor; 0 for no cap. */
  setCap(percent: number): void;
  /**
   * Its share where domains want more than there is, from now on.
   * @throws ConfigError  the system does not let it; nothing is changed
   */
  setWeight(weight: number): Promise<void>;
  /**
   * On which of the host's processors each vcpu may run from now on.
   * @param cpus  by vcpu, as in a configuration
   * @throws ConfigError  a processor is not there, or the system does not let it
   */
  pin(cpus: readonly string[]): Promise<void>;
  /** What the domain has used since it was started. Counts only grow, but for memory. */
  counters(): DomainCounters;
  /** Settles once every vcpu has stopped and nothing of the domain is left. Never rejects. */
  readonly exited: Promise<ExitReport>;
  /** Ends the domain at once, as `xl destroy`; `exited` then settles with reason "destroyed". */
  destroy(): Promise<void>;
}

/** How a domain's vcpus execute, for measurements and tests. */
export type EngineChoice = Pick<WasmEngineOptions, "translate">;

/** The first number beside the host's. */
export const FIRST_DOMID = 1;

export interface LaunchOptions extends EngineChoice {
  /** 1 ≤ domid < 0x7ff0; a process holds one domain, so the default serves wherever numbers of several do not meet. */
  readonly domid?: number;
  /** The process is this domain's alone: what is said of its processors' time holds for all threads. */
  readonly ownsProcess?: boolean;
  /** Builds the domain and leaves its vcpus standing before their first instruction. */
  readonly paused?: boolean;
  /** Whose threads its vcpus run on, instead of new ones; alone on theirs, or beside other domains'. */
  readonly threads?: { readonly shared: SharedThreads; readonly isAlone: boolean };
  /** Where the domain goes on, instead of at its kernel's entry. Its guest keeps the number that it had. */
  readonly from?: SavedFile;
}

/** Why a domain ended. */
export type ExitReason = "poweroff" | "reboot" | "suspend" | "crash" | "watchdog" | "soft-reset" | "destroyed";

export interface ExitReport {
  readonly reason: ExitReason;
  /** Unless the guest powered off or rebooted: what happened and each vcpu's registers, as lines for a person. */
  readonly detail?: string;
  /** From the start of the vcpus to their end, in milliseconds. */
  readonly runMs: number;
  /** Guest instructions over all vcpus. */
  readonly instructions: number;
  /** How often each kind of exit brought a vcpu back to the hypervisor. */
  readonly exits: Readonly<Record<string, number>>;
}
