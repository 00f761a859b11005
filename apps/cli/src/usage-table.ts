/** What domains used and had reserved, for people. */
import type { UsageSum } from "@xenoserver/agent/index.ts";

const COLUMNS = ["vcpu s", "reserved", "GiB h", "read MB", "written", "sent MB", "received"];

/** @returns lines: a head, and one for each domain */
export function usageTable(usage: readonly UsageSum[]): string[] {
  const line = (name: string, domid: string, columns: readonly string[]): string =>
    `${name.padEnd(32)} ${domid.padStart(5)} ${columns.map((column) => column.padStart(9)).join(" ")}`;
  return [line("Name", "ID", COLUMNS), ...usage.map((sum) => line(sum.name, String(sum.domid), columnsOf(sum)))];
}

function columnsOf({ totals: t }: UsageSum): string[] {
  const gibHours = t.memoryReservedByteSeconds / 2 ** 30 / 3600;
  const bytes = [t.diskReadBytes, t.diskWrittenBytes, t.netSentBytes, t.netReceivedBytes];
  return [
    ...[t.vcpuUsedNs, t.vcpuReservedNs].map((ns) => (ns / 1e9).toFixed(1)),
    gibHours.toFixed(4),
    ...bytes.map((count) => (count / 1e6).toFixed(1)),
  ];
}
