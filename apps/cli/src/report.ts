/** What is said when a domain has ended. */
import type { ExitReport } from "@xenoserver/toolstack/domain/index.ts";

/** The closing report of `--json`. Times in milliseconds, memory in bytes. */
export interface ClosingReport {
  readonly name: string;
  readonly uuid: string;
  readonly reason: ExitReport["reason"] | "timeout" | "interrupted";
  readonly detail?: string;
  /** From the start to init's marker on the console; null if it did not appear. */
  readonly bootMs: number | null;
  readonly runMs: number;
  readonly instructions: number;
  readonly exits: Readonly<Record<string, number>>;
  /** Largest resident set of the whole process. */
  readonly peakMemoryBytes: number;
  readonly restarts: number;
}

const ENDINGS: Readonly<Record<ClosingReport["reason"], string>> = {
  poweroff: "powered off",
  reboot: "asked for a reboot",
  suspend: "suspended itself, which is not supported yet",
  crash: "crashed",
  "soft-reset": "asked for a soft reset, which is not supported yet",
  watchdog: "was ended by its watchdog",
  destroyed: "was destroyed",
  timeout: "was still running at the time limit",
  interrupted: "was interrupted",
};

/** One or more lines for a person. */
export function describeReport(report: ClosingReport): string {
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
  const boot = report.bootMs === null ? "" : ` (boot to init ${seconds(report.bootMs)})`;
  const line = `xeno: ${report.name} ${ENDINGS[report.reason]} after ${seconds(report.runMs)}${boot}`;
  return report.detail === undefined ? line : `${line}\n${report.detail}`;
}
