/** How far a domain that moves has come, on one line that is written over. */
import type { Progress } from "@xenoserver/agent/index.ts";

type MigrationProgress = Extract<Progress, { kind: "migrate" }>;

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);

export function describeMigration(progress: MigrationProgress): string {
  const { phase, round, sentBytes, bytesPerSecond, dirtyBytesPerSecond, expectedDowntimeMs } = progress;
  const { diskBytes, diskTotalBytes } = progress;
  if (phase === "disks") return `disks, ${megabytes(diskBytes)} of some ${megabytes(diskTotalBytes)} MB`;
  const words = [`round ${round}`, `${megabytes(sentBytes)} MB sent`];
  if (bytesPerSecond !== undefined) words.push(`${megabytes(bytesPerSecond)} MB/s`);
  if (dirtyBytesPerSecond !== undefined) words.push(`the guest writes ${megabytes(dirtyBytesPerSecond)} MB/s`);
  if (phase === "handover") words.push("stands still");
  else if (expectedDowntimeMs !== undefined) words.push(`would stand still for ${Math.ceil(expectedDowntimeMs)} ms`);
  return words.join(", ");
}

/** What shows progress on a terminal, and what takes it away again. */
export function progressLine(terminal: NodeJS.WriteStream): { show(text: string): void; clear(): void } {
  const write = (text: string): void => void terminal.write(`\r\x1b[K${text}`);
  return {
    show: (text) => write(text.slice(0, Math.max(1, (terminal.columns || 80) - 1))),
    clear: () => write(""),
  };
}
