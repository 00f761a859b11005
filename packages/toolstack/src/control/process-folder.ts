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
 *     log             what its hypervisor had to say
 *     zygote          of one that is in a process which other domains may share: that one's folder and number
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
/** Of a domain whose process is a zygote's: that one's folder. */
export const ZYGOTE_FILE = "zygote";
/** What the domain's hypervisor has to say. */
export const LOG_FILE = "log";
export const SOCKET_FILE = "control.sock";
export const ARRIVAL_FILE = "arrival.sock";
export const FAILED_FILE = "failed.json";
export const END_FILE = "end.json";
export const CONSOLE_FILE = "console.log";

/** What a zygote is told at its standard input, a line of JSON each; see zygote-main.ts. */
export type ZygoteRequest =
  /** Domains of this size will come. */
  | { readonly kind: "warm"; readonly vcpus: number; readonly memoryMib: number }
  /** The domain of a folder is to go on here; alone on its threads, or beside others. */
  | { readonly kind: "host"; readonly folder: string; readonly isAlone: boolean }
  /** No more will come. */
  | { readonly kind: "seal" };

/** What it says at its standard output, likewise: a domain runs, or its folder tells why not. */
export interface ZygoteReply {
  readonly folder: string;
}
