/** What a class of devices brings along; `XenbusBackend` does the rest. */
import type { HostEventChannels, HostGrants } from "@xenoserver/xen";
import type { LocalClient } from "@xenoserver/xenstore";
import type { DeviceClass } from "./protocol.ts";

/** What the backends of one domain share. */
export interface BackendHost {
  readonly domid: number;
  /** A privileged client of the domain's xenstore. */
  readonly store: LocalClient;
  readonly grants: HostGrants;
  readonly channels: HostEventChannels;
  readonly log: (message: string) => void;
}

/** Names and values of nodes; names may have parts: "queue-0/ring-ref". */
export type Nodes = Readonly<Record<string, string>>;

/**
 * A guest asked for, or did, what its device cannot serve. The device is closed and the message is shown to the guest and
 * in the log: it names the key or field, its value, and what was expected.
 */
export class DeviceError extends Error {
  override readonly name = "DeviceError";
}

/** What the guest's driver wrote below its directory. All of it is the guest's word: check before use. */
export interface FrontendKeys {
  read(key: string): string | undefined;
  /**
   * @returns the number, or `absent` if there is no such key
   * @throws  DeviceError  the key is missing and `absent` is not given, or it is no decimal number from `min` to `max`
   */
  readUnsigned(key: string, limits: { readonly min?: number; readonly max: number; readonly absent?: number }): number;
}

export interface ConnectContext {
  readonly frontend: FrontendKeys;
  /** "dom3 vbd 51712", with which every message starts. */
  readonly name: string;
  /**
   * To be called when the guest broke the protocol after it connected. Closes the device soon, and once; the connection has
   * its `close` called and takes no more requests.
   */
  readonly fail: (error: DeviceError) => void;
  /** What `Connection.exportState` gave, if the device goes on from there. */
  readonly saved?: unknown;
}

/** A device whose guest is connected. Methods as those of `Device`. */
export interface Connection {
  /** Nodes to publish below the backend's directory before it shows Connected, such as the size of a disk. */
  readonly properties?: Nodes;
  pause(): void;
  paused(): Promise<void>;
  resume(): void;
  /** Answers or gives up all that is in flight, unmaps, unbinds. Called once; never rejects. */
  close(): Promise<void>;
  exportState(): unknown;
}

export interface BackendDriver {
  readonly deviceClass: DeviceClass;
  /** Of the states that `Connection.exportState` gives. */
  readonly stateVersion: number;
  /** Nodes that are there from the beginning in the guest's directory, beside those of every device. */
  frontendNodes(): Nodes;
  /** The same in the backend's: what the guest needs to know before it sets up its rings. Read again at each handshake. */
  backendNodes(): Nodes;
  /** Nodes of both directories that are this domain's own: one that goes on as the copy of another has them changed. */
  identityNodes?(): Nodes;
  /**
   * Called when the guest's driver has published its rings: reads their keys, maps them, binds their channels.
   * Requests may be served from here on.
   * @throws DeviceError  after undoing all that it did
   */
  connect(context: ConnectContext): Connection;
}
