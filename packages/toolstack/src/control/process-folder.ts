/**
 * The folder of a domain's own process. It has a `spec.json` and gets all else:
 *
 *     spec.json       what to start, written before
 *     arrival.json    what it has made elsewhere until then; see migrate/left-list.ts
 *     kernel ramdisk  of a domain that came from another server with them
 *     arrival.sock    while it is awaited from another server; see migrate/
 *     control.sock    while it runs; see protocol.ts
 *     failed.json     why it could not be started
 *     end.json        how it ended; written last, so that what lies beside it is complete
 *     console.log     the console's last words
 *     usage.*         see usage/meter.ts
 *
 * A domain comes from its kernel, or goes on from where it was saved.
 */
import type { DomainSpec } from "../cfg/index.ts";

export interface ProcessSpec {
  readonly version: 1;
  readonly runId: string;
  readonly domid: number;
  /** Names and values as in xl.cfg; paths are absolute. */
  readonly domain: DomainSpec;
  readonly paused: boolean;
  /** Path of the saved domain that it goes on from; its kernel is not read then. */
  readonly restore?: string;
  /** It arrives at `ARRIVAL_FILE` from another server. */
  readonly arrives?: boolean;
  /** Folder for disks that are files and came along with domains. */
  readonly disks?: string;
}

export const SPEC_FILE = "spec.json";
export const SOCKET_FILE = "control.sock";
export const ARRIVAL_FILE = "arrival.sock";
export const FAILED_FILE = "failed.json";
export const END_FILE = "end.json";
export const CONSOLE_FILE = "console.log";
