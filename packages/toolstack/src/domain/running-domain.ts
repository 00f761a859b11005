/** What a running domain looks like to whoever started it. */

/** Called with console bytes that the guest wrote; the array is the callee's to keep. */
export type ConsoleListener = (bytes: Uint8Array) => void;

export interface RunningDomain {
  /**
   * Types bytes at the guest's console.
   * @returns settled when the guest's ring has taken them all, so that a writer can keep its pace; never rejects
   */
  writeConsole(bytes: Uint8Array): Promise<void>;
  /** Settles once every vcpu has stopped and nothing of the domain is left. Never rejects. */
  readonly exited: Promise<ExitReport>;
  /** Ends the domain at once, as `xl destroy`; `exited` then settles with reason "destroyed". */
  destroy(): Promise<void>;
}

/** Why a domain ended. */
export type ExitReason = "poweroff" | "reboot" | "suspend" | "crash" | "watchdog" | "destroyed";

export interface ExitReport {
  readonly reason: ExitReason;
  /** After a crash: what happened and the registers, as lines for a person. */
  readonly detail?: string;
  /** From the start of the vcpus to their end, in milliseconds. */
  readonly runMs: number;
  /** Guest instructions over all vcpus; undefined if the engine does not count. */
  readonly instructions?: number;
  /** How often each kind of exit brought a vcpu back to the hypervisor. */
  readonly exits: Readonly<Record<string, number>>;
}
