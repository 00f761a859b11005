/** What the toolstack sees of every device of a domain, whatever its class. */

/** A device at rest, as plain data. */
export interface SavedDevice {
  /** The device's class, e.g. "vbd". */
  readonly kind: string;
  readonly devid: number;
  /** Of `data`; a reader refuses versions that it does not know. */
  readonly version: number;
  readonly data: unknown;
}

/**
 * A device of a domain. All methods are called by the toolstack, on the thread that the backends live on, in this order:
 *
 *     new → [importState] → start → (pause → paused → [exportState] → resume)* → stop
 *
 * A device that the toolstack adds while the domain runs goes through the same steps.
 */
export interface Device {
  /**
   * Appears to the guest. Called once: before the first vcpu runs, or at any later time (hot-plug). From here on the
   * device serves the guest by itself, on events and watches. Never throws for anything that a guest wrote.
   */
  start(): void;

  /**
   * Takes no more requests from the guest; those it has taken go on. Called when the vcpus have been paused, or are about
   * to be. What the guest sends meanwhile waits in its rings.
   */
  pause(): void;

  /**
   * Settles when every request that was taken is answered, after which the device touches neither guest memory nor its
   * store until `resume`. Only called after `pause`; never rejects.
   */
  paused(): Promise<void>;

  /** Serves the guest again, beginning with what waits in its rings. */
  resume(): void;

  /**
   * Ends for good: settles when nothing is in flight, every page is unmapped and every channel closed. Called once, also for
   * a device that is paused or broken; never rejects. The guest need not agree (see `XenbusBackend.unplug`).
   */
  stop(): Promise<void>;

  /** What `importState` needs to go on elsewhere. Only called between `paused` and `resume` or `stop`. */
  exportState(): SavedDevice;

  /**
   * Takes up a saved device in place of a handshake with the guest. Called before `start`, when the domain's memory, grants and
   * xenstore nodes are as they were at `exportState`, and what the host had marked in them is undone: no grant is pinned, and
   * the guest's ends of the backends' event channels are unbound, for domain 0 to bind again.
   * @throws TypeError  for a state of another kind or version
   */
  importState(state: SavedDevice): void;
}
