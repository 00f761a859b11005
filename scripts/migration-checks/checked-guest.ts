/** A guest that is at work while it moves, and what shows that nothing of its work was lost. */
import type { CheckServer } from "./servers.ts";

/** What the guest is called. */
export const DOMAIN = "mover";

export interface Findings {
  /** What is right. */
  readonly found: readonly string[];
  readonly failures: readonly string[];
}

export interface CheckedGuest {
  readonly memoryMib: number;
  /** Of its network, to which a port of this host leads. */
  readonly port: number;
  /** Puts the images of its disks into the folder of the store of the server where it starts. @returns its settings, as `xeno create` takes them */
  settings(store: string): Promise<readonly string[]>;
  /** Waits until it is up, and has it work. @param hostPort  which leads to it */
  start(server: CheckServer, hostPort: number): Promise<void>;
  /** While it works. @returns a sentence @throws Error  something is wrong */
  check(server: CheckServer): Promise<string>;
  /** Ends its work, and looks at all that is left. */
  finish(server: CheckServer): Promise<Findings>;
  /** How long the slowest request took that waited at some time within these, by `performance.now()`. Undefined if that is only known when it has finished. */
  slowestMs(fromMs: number, toMs: number): number | undefined;
  /** Ends what asks it from here, however far that has come. */
  close(): void;
}

/** The longest of what took place at some time between two others. */
export function longestMs(
  all: readonly (readonly [beginMs: number, endMs: number])[],
  fromMs: number,
  toMs: number,
): number {
  return Math.max(
    0,
    ...all.filter(([begin, end]) => end >= fromMs && begin <= toMs).map(([begin, end]) => end - begin),
  );
}
