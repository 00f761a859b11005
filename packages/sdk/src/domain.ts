/** A machine as an object, wherever it runs. */

import type { Duplex } from "node:stream";
import type { Progress } from "@xenoserver/agent/index.ts";
import type { DomainSpec } from "@xenoserver/toolstack/control/index.ts";
import type { SnapshotReport } from "@xenoserver/toolstack/snapshot/index.ts";

export type { DomainSpec, Progress, SnapshotReport };

/** Of what takes long. */
export interface Watching {
  readonly onProgress?: (progress: Progress) => void;
  /** Takes it back, as far as that is still possible; what was asked for fails then, and is undone. */
  readonly signal?: AbortSignal;
}

export interface ExecOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stdin?: AsyncIterable<Uint8Array> | Uint8Array | string;
  /** How long the guest may take to answer for the first time; it may be starting. 60 s if absent. */
  readonly readyMs?: number;
  /** Ends the command. */
  readonly signal?: AbortSignal;
}

export interface ExecResult {
  /** 0 to 255; of a command that a signal ended 128 and the signal's number. */
  readonly status: number;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/** How a domain ended. */
export interface End {
  /** "poweroff", "reboot", "crash", "destroyed" … */
  readonly reason: string;
  /** Unless it was wanted: what happened. */
  readonly detail?: string;
}

export interface ForkOptions extends Watching {
  /** 1 if absent. */
  readonly count?: number;
  readonly name?: string;
}

export interface Domain {
  readonly name: string;
  readonly uuid: string;
  /** Settles when it has ended for good. */
  readonly ended: Promise<End>;
  /**
   * Runs a command in the guest to its end, over a line that needs no network there.
   * @param command  words; or a line for the guest's shell
   * @throws Error   the guest has no agent, or cannot start it
   */
  exec(command: string | readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** Writes a file in the guest; it has its name once it is whole. @throws Error */
  writeFile(path: string, data: AsyncIterable<Uint8Array> | Uint8Array | string, mode?: number): Promise<void>;
  /** @throws Error  from the iterator */
  readFile(path: string): AsyncIterable<Uint8Array>;
  /** What the console printed, from the oldest byte that is kept on, until the domain ends. */
  console(): AsyncIterable<Uint8Array>;
  /** The console in both directions, as a stream; its end does not end the domain. */
  consoleStream(): Promise<Duplex>;
  /** Types at the console. */
  type(text: string | Uint8Array): Promise<void>;
  pause(): Promise<void>;
  unpause(): Promise<void>;
  /** Asks the guest to power off; `ended` tells when it has. */
  shutdown(): Promise<void>;
  /** Ends it at once. */
  destroy(): Promise<void>;
  /** Writes it to a file as it is at this moment, while it runs on. @throws Error  nothing is left of the file */
  snapshot(path: string, watching?: Watching): Promise<SnapshotReport>;
  /**
   * Makes copies that go on from where it is, with names and uuids of their own.
   * @param name  what their names begin with; its own if absent
   * @throws Error  there are none then
   */
  fork(options?: ForkOptions): Promise<Domain[]>;
}

/** Where domains are made. */
export interface Host {
  /** @param spec  keys of xl.cfg; paths are absolute @throws Error  one line for each mistake */
  create(spec: DomainSpec, watching?: Watching): Promise<Domain>;
  /** Goes on from what `save` or `snapshot` wrote. @param name  makes it another domain */
  restore(path: string, options?: { readonly name?: string } & Watching): Promise<Domain>;
}

export const wordsOf = (command: string | readonly string[]): readonly string[] =>
  typeof command === "string" ? ["sh", "-c", command] : command;

export const DEFAULT_READY_MS = 60_000;
