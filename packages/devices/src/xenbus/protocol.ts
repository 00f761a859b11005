/**
 * How a device's two ends find each other in xenstore: their directories, and the state that each shows the other.
 * @see xen/include/public/io/xenbus.h
 */
import { domainPath } from "@xenoserver/xenstore";

export const XenbusState = {
  Unknown: 0,
  Initialising: 1,
  InitWait: 2,
  Initialised: 3,
  Connected: 4,
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
} as const;
export type XenbusState = (typeof XenbusState)[keyof typeof XenbusState];

/** The field's name for a state, for messages. */
export function xenbusStateName(state: XenbusState): string {
  return Object.entries(XenbusState).find(([, value]) => value === state)![0];
}

/** What a `state` node says; Unknown if there is none, or something else in it. */
export function parseXenbusState(text: string | undefined): XenbusState {
  return text !== undefined && /^[1-8]$/.test(text) ? (Number(text) as XenbusState) : XenbusState.Unknown;
}

/** Xen's names for classes of devices. */
export type DeviceClass = "vbd" | "vif" | "9pfs" | "console";

/** Backends run on the host, which is domain 0. */
export const BACKEND_DOMID = 0;

export interface DevicePaths {
  /** The guest's: it may write there whatever it likes. */
  readonly frontend: string;
  /** The host's: the guest may only read there. */
  readonly backend: string;
}

/** @param devid  the device's number in its class, e.g. 51712 for xvda, 0 for the first vif */
export function devicePaths(deviceClass: DeviceClass, domid: number, devid: number): DevicePaths {
  return {
    frontend: `${domainPath(domid)}/device/${deviceClass}/${devid}`,
    backend: `${domainPath(BACKEND_DOMID)}/backend/${deviceClass}/${domid}/${devid}`,
  };
}
