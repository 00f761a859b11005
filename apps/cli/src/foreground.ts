/** Runs a domain in the foreground until it ends for good, restarting it as its configuration says. */
import type { DomainConfig } from "@xenoserver/toolstack/cfg/index.ts";
import { actionFor } from "@xenoserver/toolstack/control/actions.ts";
import {
  type DomainListener,
  type ExitReport,
  launchDomain,
  type RunningDomain,
} from "@xenoserver/toolstack/domain/index.ts";
import { INIT_MARKER } from "@xenoserver/toolstack/guest/index.ts";
import { BootWatch } from "./boot-watch.ts";
import { type ConsoleEnd, type ConsoleEvents, openConsole } from "./console-io.ts";
import { ExitStatus } from "./exit-status.ts";
import { type ClosingReport, describeReport } from "./report.ts";

export interface ForegroundOptions {
  /** "stdio", "none", or a file's path. */
  readonly console: string;
  /** Ends the domain after this long. */
  readonly timeoutSeconds?: number;
  /** Print the closing report as one line of JSON on standard output. */
  readonly json?: boolean;
  /** Show the hypervisor's messages on standard error. */
  readonly verbose?: boolean;
  /** Types Ctrl-D when a piped input has come to its end, as long as the guest runs. Otherwise the guest does not learn of it. */
  readonly endsWithInput?: boolean;
  /**
   * Does what the domain was started for. Once it settles, the domain is ended and its value is the command's status; if it
   * rejects, so does `runForeground`.
   */
  readonly session?: (domain: RunningDomain) => Promise<number>;
  /** Does something while the guest runs; that it fails ends nothing. */
  readonly beside?: (domain: RunningDomain) => Promise<void>;
  /** What the guest prints when it is up, as the begin of a line, in place of init's marker. */
  readonly prompt?: string;
  /** Called when init's marker or the prompt appears, with the time since the start. */
  readonly onBooted?: (bootMs: number, note: (line: string) => void) => void;
}

/** Why the domain is being ended from here. */
type Stop = { readonly reason: "timeout" | "interrupted" | "left" | "done"; readonly status: number };

/** What comes from outside of the domain. */
interface Outside {
  readonly stopped: Promise<Stop>;
  /** With whether the input ended within a line. */
  readonly inputEnded: Promise<boolean>;
  readonly events: ConsoleEvents;
}

const END_OF_INPUT_MS = 500;
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** @returns the exit status of the command */
export async function runForeground(config: DomainConfig, options: ForegroundOptions): Promise<number> {
  const end = openConsole(options.console);
  const { promise: stopped, resolve: stop } = Promise.withResolvers<Stop>();
  const handlers = Object.entries(SIGNALS).map(([signal, status]) => {
    const handler = (): void => stop({ reason: "interrupted", status });
    process.on(signal, handler);
    return [signal, handler] as const;
  });
  const { timeoutSeconds } = options;
  const timer =
    timeoutSeconds === undefined
      ? undefined
      : setTimeout(() => stop({ reason: "timeout", status: ExitStatus.timedOut }), timeoutSeconds * 1000);
  const { promise: inputEnded, resolve: onInputEnd } = Promise.withResolvers<boolean>();
  const events: ConsoleEvents = {
    onLeave: () => stop({ reason: "left", status: ExitStatus.ok }),
    onGone: () => stop({ reason: "interrupted", status: ExitStatus.outputGone }),
    onInputEnd,
  };
  try {
    return await runUntilEnd(config, options, end, { stopped, inputEnded, events });
  } finally {
    clearTimeout(timer);
    for (const [signal, handler] of handlers) process.off(signal, handler);
    await end.close();
  }
}

async function runUntilEnd(
  config: DomainConfig,
  options: ForegroundOptions,
  end: ConsoleEnd,
  { stopped, inputEnded, events }: Outside,
): Promise<number> {
  let type: ((bytes: Uint8Array) => Promise<void>) | undefined;
  for (let restarts = 0; ; restarts++) {
    const begin = performance.now();
    const watch = new BootWatch(options.prompt ?? INIT_MARKER, options.prompt !== undefined);
    let bootMs: number | null = null;
    const { promise: booted, resolve: onBooted } = Promise.withResolvers<void>();
    // The files are read again at each start, so that they need not be kept in memory while the guest runs.
    const listener: DomainListener = {
      onConsole: (bytes) => {
        const lineEnd = watch.feed(bytes);
        if (lineEnd === undefined) return end.write(bytes);
        bootMs = performance.now() - begin;
        end.write(bytes.subarray(0, lineEnd));
        options.onBooted?.(bootMs, (line) => end.note(line));
        onBooted();
        return lineEnd < bytes.length ? end.write(bytes.subarray(lineEnd)) : undefined;
      },
      ...(options.verbose && { onLog: (message: string) => end.note(message) }),
    };
    const domain = await launchDomain(config, listener, { ownsProcess: true });
    if (type === undefined) end.attach((bytes) => type!(bytes), events);
    type = (bytes) => domain.writeConsole(bytes);
    if (options.endsWithInput) void booted.then(async () => typeEndOfInput(domain, await inputEnded));

    options.beside?.(domain).catch(() => {});
    // The end of the domain ends its session as well, which may still have a status to tell.
    const ended = options.session?.(domain).then((status): Stop => ({ reason: "done", status }));
    const stop = await Promise.race([ended ?? domain.exited.then(() => undefined), stopped]).catch(async (error) => {
      await domain.destroy();
      const { reason, detail } = await domain.exited;
      if (reason === "crash") end.note(`xeno: ${config.name} crashed\n${detail}`);
      throw error;
    });
    ended?.catch(() => {});
    if (stop !== undefined) await domain.destroy();
    const report = await domain.exited;
    if (stop === undefined && actionFor(config, report.reason) === "restart") {
      end.note(`xeno: ${config.name} ${report.reason === "reboot" ? "reboots" : "is restarted"}`);
      continue;
    }
    const closing: ClosingReport = {
      name: config.name,
      uuid: config.uuid,
      reason:
        stop === undefined || stop.reason === "done"
          ? report.reason
          : stop.reason === "left"
            ? "destroyed"
            : stop.reason,
      // Whoever leaves or interrupts knows why; a guest that crashed or ran out of time is to be looked into.
      ...(report.detail !== undefined &&
        (stop === undefined || stop.reason === "timeout") && { detail: report.detail }),
      bootMs,
      runMs: report.runMs,
      instructions: report.instructions,
      exits: report.exits,
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
      restarts,
    };
    await end.close();
    if (options.json) process.stdout.write(`${JSON.stringify(closing)}\n`);
    else if (stop?.reason !== "done") process.stderr.write(`${describeReport(closing)}\n`);
    return stop?.status ?? statusOf(report.reason);
  }
}

/**
 * Ends what reads the guest's terminal, as a user would: by Ctrl-D on an empty line, again and again, for what it reaches may
 * be a program that the shell runs.
 */
async function typeEndOfInput(domain: RunningDomain, inLine: boolean): Promise<void> {
  if (inLine) await domain.writeConsole(Uint8Array.of(0x0a));
  for (;;) {
    await domain.writeConsole(Uint8Array.of(0x04));
    const timer = new Promise<false>((resolve) => setTimeout(resolve, END_OF_INPUT_MS, false));
    if (await Promise.race([domain.exited, timer])) return;
  }
}

const statusOf = (reason: ExitReport["reason"]): number =>
  reason === "crash" || reason === "watchdog" ? ExitStatus.guestCrashed : ExitStatus.ok;
