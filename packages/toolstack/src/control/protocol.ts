/**
 * What is said over a domain's control socket: lines of JSON, each a request, its reply, or an event that the client asked
 * for. Replies come in any order, told apart by `id`.
 */
import type { TerminalSize } from "../agent/index.ts";
import type { DeviceCounters, ExitReport, VcpuCounters } from "../domain/index.ts";
import type { MigrationReport } from "../migrate/index.ts";
import type { SnapshotReport } from "../snapshot/index.ts";
import type { UsageTotals } from "../usage/meter.ts";
import type { TransferProgress } from "./transfers.ts";

export type DomainState = "running" | "paused" | "ended";

/** All that there is to know of a domain, at one moment. */
export interface DomainInfo {
  readonly runId: string;
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  readonly pid: number;
  readonly state: DomainState;
  /** Seconds since the Unix epoch. */
  readonly startedAt: number;
  /** How often the guest started anew in this process. */
  readonly restarts: number;
  readonly memoryBytes: number;
  readonly memoryTargetBytes: number;
  readonly memoryMaxBytes: number;
  readonly vcpus: readonly VcpuCounters[];
  /** Vcpus that the guest is to have online. */
  readonly vcpusWanted: number;
  /** Its share where domains want more than there is, beside theirs. */
  readonly weight: number;
  /** What its vcpus may take together, in percent of one processor; 0 for no cap. */
  readonly capPercent: number;
  /** By vcpu: the host's processors that it may run on, as xl writes them: "0,2-3", or "all". */
  readonly affinity: readonly string[];
  readonly devices: readonly DeviceCounters[];
  readonly usage: UsageTotals;
  /** Bytes that the console has printed. */
  readonly consoleBytes: number;
}

/** What becomes of a domain that was saved. */
export type AfterSave = "destroy" | "run" | "pause";
/** What came of a save: a whole file, as `bytes` before compression, or none and the reason. */
export type SaveOutcome = { readonly token: string; readonly path: string; readonly next: AfterSave } & (
  | { readonly bytes: number }
  | { readonly error: string }
);
export type ShutdownRequest = "poweroff" | "reboot" | "halt" | "suspend";

/** Every operation, its arguments and its result. */
export interface Operations {
  info: [args: Record<string, never>, result: DomainInfo];
  /** Sends `state`, `restarted` and `ended` events to this client from now on. */
  follow: [args: Record<string, never>, result: DomainInfo];
  pause: [args: Record<string, never>, result: DomainInfo];
  unpause: [args: Record<string, never>, result: DomainInfo];
  /** Asks the guest, as Xen does; the result says nothing of whether it obeys. */
  shutdown: [args: { readonly request: ShutdownRequest }, result: Record<string, never>];
  sysrq: [args: { readonly key: string }, result: Record<string, never>];
  /** `runsElsewhere` after a migration in doubt: disks that went along are removed. */
  destroy: [args: { readonly runsElsewhere?: boolean }, result: Record<string, never>];
  /** Writes the domain to a file; `bytes` are those before compression. With a token, `progress` events come meanwhile. */
  save: [
    args: { readonly path: string; readonly next: AfterSave; readonly token?: string },
    result: { readonly bytes: number },
  ];
  /** What came of a save with this token, when it is over; for who lost the line on which it was asked for. */
  "save-outcome": [args: { readonly token: string }, result: SaveOutcome];
  /** Writes the domain as it is at a moment to a file, while it runs on. */
  snapshot: [args: { readonly path: string; readonly token?: string }, result: SnapshotReport];
  /** Sends the domain to a process that awaits it at a socket; it ends here then. */
  migrate: [
    args: {
      readonly socket: string;
      readonly copyStorage?: boolean;
      readonly postCopy?: boolean;
      readonly token?: string;
    },
    result: MigrationReport,
  ];
  /** Takes back a save, snapshot or migration that was begun with a token; that one fails then, and the domain is as it was. */
  cancel: [args: { readonly token: string }, result: Record<string, never>];
  /** Starts a command in the guest; its output and end come as events with the token. */
  "exec-start": [args: { readonly token: string; readonly command: GuestCommand }, result: { readonly pid: number }];
  /** Input, no bytes for its end; replied to when there is room for more. */
  "exec-input": [args: { readonly token: string; readonly base64: string }, result: Record<string, never>];
  "exec-signal": [args: { readonly token: string; readonly signal: string }, result: Record<string, never>];
  "exec-resize": [args: { readonly token: string; readonly size: TerminalSize }, result: Record<string, never>];
  rename: [args: { readonly name: string }, result: DomainInfo];
  "memory-set": [args: { readonly targetBytes: number }, result: DomainInfo];
  "vcpu-set": [args: { readonly count: number }, result: DomainInfo];
  /** `cpus` as in xl.cfg. */
  "vcpu-pin": [args: { readonly vcpu: number | "all"; readonly cpus: string }, result: DomainInfo];
  "weight-set": [args: { readonly weight: number }, result: DomainInfo];
  "cap-set": [args: { readonly percent: number }, result: DomainInfo];
  "block-attach": [args: { readonly disk: string }, result: DomainInfo];
  "block-detach": [args: { readonly vdev: string }, result: { readonly agreed: boolean }];
  "network-attach": [args: { readonly vif: string }, result: { readonly devid: number }];
  "network-detach": [args: { readonly devid: number }, result: { readonly agreed: boolean }];
  /** Sends `console` events from the scrollback's begin, or from an offset, on. */
  "console-follow": [args: { readonly from?: number }, result: { readonly begin: number; readonly end: number }];
  "console-read": [args: Record<string, never>, result: { readonly offset: number; readonly base64: string }];
  "console-write": [args: { readonly base64: string }, result: Record<string, never>];
  "xenstore-read": [args: { readonly path: string }, result: { readonly value: string | null }];
  "xenstore-list": [args: { readonly path: string }, result: { readonly names: readonly string[] }];
  "xenstore-tree": [args: { readonly path: string }, result: { readonly nodes: readonly StoreNode[] }];
  "xenstore-write": [args: { readonly path: string; readonly value: string }, result: Record<string, never>];
  "xenstore-rm": [args: { readonly path: string }, result: Record<string, never>];
  "xenstore-chmod": [
    args: { readonly path: string; readonly permissions: readonly string[] },
    result: Record<string, never>,
  ];
  /** Sends `xenstore` events until the connection ends. */
  "xenstore-watch": [args: { readonly path: string; readonly token: string }, result: Record<string, never>];
  /** Closes the current usage record and begins another. */
  "usage-sample": [args: Record<string, never>, result: Record<string, never>];
  /** Says that usage records up to this one are kept elsewhere. */
  "usage-forget": [args: { readonly upToSeq: number }, result: Record<string, never>];
}

export type OperationName = keyof Operations;
export type ArgsOf<N extends OperationName> = Operations[N][0];
export type ResultOf<N extends OperationName> = Operations[N][1];

export interface StoreNode {
  readonly path: string;
  readonly value: string;
  /** As in the store's protocol: "n0", "r3". */
  readonly permissions: readonly string[];
}

/** How a domain ended for good. */
export interface DomainEnd {
  readonly reason: ExitReport["reason"];
  readonly detail?: string;
  readonly runMs: number;
  readonly instructions: number;
  readonly exits: Readonly<Record<string, number>>;
  readonly restarts: number;
  /** Seconds since the Unix epoch. */
  readonly endedAt: number;
  /** It went to another server; as the one who asked for that was told, if the answer came to it. */
  readonly moved?: MigrationReport;
  /** What came of its last saves that had a token, likewise. */
  readonly saves?: readonly SaveOutcome[];
}

/** What is run in a guest, as its root unless another user is named. */
export interface GuestCommand {
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly user?: { readonly uid: number; readonly gids: readonly number[] };
  /** Instead of a program: a file is written from standard input, with its path and mode as arguments, or read to standard output. */
  readonly builtin?: "put" | "get";
  /** Gives it a terminal of this size; its errors come among its output then. */
  readonly terminal?: TerminalSize;
  /** How long the guest may take to answer for the first time. */
  readonly readyMs?: number;
}

/** How a command ended: by its status, or because its guest or agent did. */
export type CommandEnd =
  | { readonly status: number; readonly signal?: string; readonly error?: undefined }
  | { readonly error: string };

export type ControlEvent =
  /** A piece of the console; `offset` is beyond the last piece's end if some went by unseen. */
  | { readonly event: "console"; readonly offset: number; readonly base64: string }
  | { readonly event: "xenstore"; readonly token: string; readonly path: string }
  | { readonly event: "state"; readonly state: DomainState }
  | {
      readonly event: "exec-output";
      readonly token: string;
      readonly stream: "stdout" | "stderr";
      readonly base64: string;
    }
  | ({ readonly event: "exec-end"; readonly token: string } & CommandEnd)
  /** Of a save, snapshot or migration with a token. */
  | { readonly event: "progress"; readonly token: string; readonly progress: TransferProgress }
  /** The guest starts anew: it rebooted, or is restarted after a crash. */
  | { readonly event: "restarted"; readonly reason: ExitReport["reason"] }
  | { readonly event: "ended"; readonly end: DomainEnd };

export interface Request {
  readonly id: number;
  readonly op: string;
  readonly args?: unknown;
}

export type Reply =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: { readonly code: ControlErrorCode; readonly message: string } };

export type ControlErrorCode =
  /** The request cannot be understood, or asks for what makes no sense. */
  | "invalid"
  /** It names something that is not there. */
  | "not-found"
  /** It cannot be done in the domain's present state. */
  | "conflict"
  /** It stands still here and may run on another server: find out before it is let run or destroyed. */
  | "in-doubt"
  | "internal";

export class ControlError extends Error {
  override readonly name = "ControlError";
  readonly code: ControlErrorCode;

  constructor(code: ControlErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Longer lines end the connection. */
export const MAX_LINE_BYTES = 1 << 20;

/** Cuts a stream of bytes into lines. */
export class LineReader {
  #rest = "";
  readonly #decoder = new TextDecoder();

  /** @throws ControlError  a line is too long */
  push(bytes: Uint8Array): string[] {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#rest = lines.pop()!;
    if (this.#rest.length > MAX_LINE_BYTES) {
      throw new ControlError("invalid", `a line has more than ${MAX_LINE_BYTES} bytes, expected fewer`);
    }
    return lines.filter((line) => line.trim() !== "");
  }
}
