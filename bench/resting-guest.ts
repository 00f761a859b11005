/** Guests that rest at their shell under an agent, and what their processes take. */
import { readFileSync } from "node:fs";
import type { Supervisor } from "@xenoserver/agent/supervisor.ts";
import { INIT_MARKER } from "@xenoserver/toolstack/guest/index.ts";
import { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";
import { within } from "./within.ts";

const BOOT_SECONDS = 180;
const PROMPT = new RegExp(`${INIT_MARKER}.*# `, "s");

/** Makes a domain, and waits for its shell. @throws Error  no kernel can be had, or the shell does not come */
export async function startGuest(supervisor: Supervisor, name: string, memoryMib: number): Promise<void> {
  const debian = await DebianGuest.open();
  if (typeof debian === "string") throw new Error(debian);
  const { kernel, ramdisk } = await debian.config({ packages: [] });
  const spec = { name, kernel, ramdisk: ramdisk!, memory: memoryMib, cmdline: "console=hvc0 quiet" };
  await supervisor.create(spec, { paused: false, overcommit: true });
  await within(BOOT_SECONDS, `${name}: its shell`, consoleShows(supervisor, name, PROMPT));
}

/** Waits until a domain has printed something. */
export async function consoleShows(supervisor: Supervisor, name: string, pattern: RegExp): Promise<void> {
  const client = await supervisor.connect(name);
  let text = "";
  const { promise, resolve } = Promise.withResolvers<void>();
  client.onEvent = (event) => {
    if (event.event !== "console") return;
    text += Buffer.from(event.base64, "base64").toString("latin1");
    if (pattern.test(text)) resolve();
  };
  await client.call("console-follow", {});
  await promise;
  client.close();
}

/** Proportional set size. */
export function pssMib(pids: Iterable<number>): number {
  let kib = 0;
  for (const pid of new Set(pids))
    kib += Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))![1]);
  return kib / 1024;
}
