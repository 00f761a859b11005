/** The guest's clocks against the host's. */
import type { GuestShell } from "@xenoserver/toolstack/testing/guest-shell.ts";

export interface ClockReport {
  /** By how much the guest's date is ahead of the host's, at the start. */
  readonly dateOffsetSeconds: number;
  /** What passed on the host meanwhile, and by each of the guest's clocks. */
  readonly hostSeconds: number;
  readonly dateSeconds: number;
  readonly uptimeSeconds: number;
  /** How long `sleep 10` took by the host's clock. */
  readonly sleepTenSeconds: number;
}

interface Reading {
  readonly host: number;
  readonly date: number;
  readonly uptime: number;
}

/** Takes ten seconds and a bit more. */
export async function compareClocks(guest: GuestShell): Promise<ClockReport> {
  const begin = await read(guest);
  const { seconds } = await guest.run("sleep 10");
  const end = await read(guest);
  return {
    dateOffsetSeconds: begin.date - begin.host,
    hostSeconds: end.host - begin.host,
    dateSeconds: end.date - begin.date,
    uptimeSeconds: end.uptime - begin.uptime,
    sleepTenSeconds: seconds,
  };
}

/** The largest part by which a clock of the guest ran faster or slower than the host's. */
export function clockError({ hostSeconds, dateSeconds, uptimeSeconds }: ClockReport): number {
  return Math.max(...[dateSeconds, uptimeSeconds].map((seconds) => Math.abs(seconds / hostSeconds - 1)));
}

/** Both clocks are read by the shell itself, without a program in between; the host's is taken halfway. */
async function read(guest: GuestShell): Promise<Reading> {
  const before = Date.now();
  const { output } = await guest.run("read uptime rest < /proc/uptime; echo $EPOCHREALTIME $uptime");
  const host = (before + Date.now()) / 2000;
  const [date, uptime] = output.split(" ").map(Number);
  return { host, date: date!, uptime: uptime! };
}

/** Processor time of this process while a guest sits at its prompt, as a part of one core. */
export async function idleCost(seconds: number): Promise<number> {
  const begin = performance.now();
  const before = process.cpuUsage();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 / (performance.now() - begin);
}
