/** The guest's clocks against the host's. */
import type { GuestShell } from "@xenoserver/toolstack/testing/guest-shell.ts";

export interface ClockReport {
  /** By how much the guest's date is ahead of the host's, at the start. */
  readonly dateOffsetSeconds: number;
  /** What passed on the host meanwhile, and by each of the guest's clocks. */
  readonly hostSeconds: number;
  readonly dateSeconds: number;
  readonly uptimeSeconds: number;
  /** How long the guest's `sleep` was told to sleep, and how long that took by the host's clock. */
  readonly sleepSeconds: number;
  readonly sleptSeconds: number;
}

interface Reading {
  readonly host: number;
  readonly date: number;
  readonly uptime: number;
}

/** Something to do beside `sleep`: arithmetic in the shell, and a process now and then. */
const LOAD = "(while :; do i=0; while [ $i -lt 500 ]; do i=$((i+1)); done; /bin/true; done) & load=$!";

/** Lets a guest sleep so long while another of its processes is busy. */
export async function compareClocks(guest: GuestShell, sleepSeconds: number): Promise<ClockReport> {
  const quiet = await read(guest);
  await guest.run(LOAD);
  const begin = await read(guest);
  const { seconds } = await guest.run(`sleep ${sleepSeconds}`, 2 * sleepSeconds + 60);
  const end = await read(guest);
  await guest.run("kill $load");
  return {
    dateOffsetSeconds: quiet.date - quiet.host,
    hostSeconds: end.host - begin.host,
    dateSeconds: end.date - begin.date,
    uptimeSeconds: end.uptime - begin.uptime,
    sleepSeconds,
    sleptSeconds: seconds,
  };
}

/** By which part `date`, /proc/uptime and `sleep` differ from the host's clock. */
export function clockErrors(r: ClockReport): {
  readonly date: number;
  readonly uptime: number;
  readonly sleep: number;
} {
  return {
    date: r.dateSeconds / r.hostSeconds - 1,
    uptime: r.uptimeSeconds / r.hostSeconds - 1,
    sleep: r.sleptSeconds / r.sleepSeconds - 1,
  };
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
