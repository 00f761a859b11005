/**
 * What it costs a guest that the pages it writes are logged, as for a migration: the same commands with the log on, collected every
 * 100 ms, and off, in turns. Nothing is copied, so this is the log's own cost. `npm run dirty-log-guest`
 */
import { setTimeout as sleep } from "node:timers/promises";
import { DirtyLog, DomainMemory } from "@xenoserver/cpu";
import { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";
import { GuestShell } from "@xenoserver/toolstack/testing/guest-shell.ts";
import { Domain, isResting } from "@xenoserver/xen";
import { median } from "./summary.ts";

const COLLECT_MS = 100;
const ROUNDS = Number(process.argv[2] ?? 9);

const times = (count: number, command: string): string =>
  `i=0; while [ $i -lt ${count} ]; do ${command}; i=$((i+1)); done`;
const COMMANDS: Readonly<Record<string, string>> = {
  "64 MiB, page after page": times(40, "dd if=/dev/zero of=/mnt/x bs=1M count=64 conv=notrunc"),
  "the same 4 MiB": times(200, "dd if=/dev/zero of=/mnt/y bs=1M count=4 conv=notrunc"),
  "an awk array of 65,536 words": "awk 'BEGIN { for (i = 0; i < 400000; i++) a[(i * 7919) % 65536] = i }'",
  "processes that start": times(250, "/bin/busybox true"),
  "gzip of 8 MiB": "gzip -1 < /mnt/noise | wc -c",
  "a shell's loop": times(80_000, ":"),
};

/** The memory and the domain of what is launched next. */
function catchNext(): { memory?: DomainMemory; domain?: Domain } {
  const caught: { memory?: DomainMemory; domain?: Domain } = {};
  const [createMemory, createDomain] = [DomainMemory.create, Domain.create];
  DomainMemory.create = (...args) => (caught.memory = createMemory.apply(DomainMemory, args));
  Domain.create = (...args) => (caught.domain = createDomain.apply(Domain, args));
  return caught;
}

/** Collects until told to stop. @returns how many rounds there were, and how many frames they told of */
function collecting(
  log: DirtyLog,
  rests: (vcpuId: number) => boolean,
): () => Promise<{ rounds: number; frames: number }> {
  let goesOn = true;
  const sums = { rounds: 0, frames: 0 };
  const done = (async () => {
    await log.start(rests);
    while (goesOn) {
      await sleep(COLLECT_MS);
      sums.frames += (await log.collect(rests)).length;
      sums.rounds++;
    }
    log.stop();
  })();
  return async () => {
    goesOn = false;
    await done;
    return sums;
  };
}

const guest = await DebianGuest.open();
if (typeof guest === "string") throw new Error(guest);
const caught = catchNext();
const shell = await GuestShell.boot(await guest.config({}, { memoryMib: 256 }));
const log = new DirtyLog(caught.memory!);
const rests = (vcpuId: number): boolean => isResting(caught.domain!, vcpuId);
await shell.run("mount -t tmpfs -o size=180m t /mnt; dd if=/dev/urandom of=/mnt/noise bs=1M count=8");
console.log("| | off (s) | on (s) | on / off | frames a round |\n|---|---|---|---|---|");
for (const [name, command] of Object.entries(COMMANDS)) {
  const took = { off: [] as number[], on: [] as number[] };
  const told = { rounds: 0, frames: 0 };
  // What runs first translates.
  await shell.run(`(${command}) > /dev/null 2>&1`, 300);
  for (let round = 0; round < ROUNDS * 2; round++) {
    const isOn = round % 2 === 1;
    const stop = isOn ? collecting(log, rests) : undefined;
    took[isOn ? "on" : "off"].push((await shell.run(`(${command}) > /dev/null 2>&1`, 300)).seconds);
    const sums = await stop?.();
    told.rounds += sums?.rounds ?? 0;
    told.frames += sums?.frames ?? 0;
  }
  const [off, on] = [median(took.off)!, median(took.on)!];
  const ratios = took.off.map((seconds, n) => took.on[n]! / seconds).toSorted((a, b) => a - b);
  const spread = `${ratios.at(0)!.toFixed(2)} to ${ratios.at(-1)!.toFixed(2)}`;
  const frames = Math.round(told.frames / told.rounds);
  console.log(
    `| ${name} | ${off.toFixed(2)} | ${on.toFixed(2)} | ${median(ratios)!.toFixed(2)} (${spread}) | ${frames} |`,
  );
}
await shell.destroy();
process.exit(0);
