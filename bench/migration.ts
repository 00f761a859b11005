/**
 * Live migration beside QEMU's: the same kernel and initramfs move between two processes of this host, in turn.
 *
 *   npm run bench -- --migration [--reps 5]
 *
 * Ours moves by pre-copy and by post-copy; only one of the guests runs at a time. Downtime is what each side reports: QEMU's `query-migrate`, and
 * our closing report. Both send over a UNIX socket, as fast as they can.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";
import type { DomainProcess } from "@xenoserver/toolstack/testing/domain-process.ts";
import { moveTo, reportOf, TestServer } from "@xenoserver/toolstack/testing/moving-servers.ts";
import { openKernel } from "./guest-files.ts";
import { FIXED_ARGS, TCG_CPU } from "./machines.ts";
import { Qmp } from "./qmp.ts";
import { median } from "./summary.ts";
import { tied } from "./tied-process.ts";
import { within } from "./within.ts";

const MEMORY_MIB = 512;
/** How long a guest works before it moves, and moves again. */
const WORK_MS = 3000;
/** QEMU goes on sending to a guest that writes as fast; after this it may stop it for longer. */
const PATIENCE_MS = 20_000;
const LONGEST_STILL_MS = 20_000;
/** What takes longer than this will not come to an end. */
const MOVE_SECONDS = 120;
const WORKING_SECONDS = 180;
const END_SECONDS = 20;
/** In bytes a second, of which QEMU takes no more than 2^63: else it holds itself to 128 MiB. */
const UNBOUNDED = 2 ** 40;

/** What a guest prints when its work begins. */
const WORKING = "at work";
const GUESTS = {
  http: `mkdir /www && dd if=/dev/urandom of=/www/file bs=64k count=16 2>/dev/null && httpd -h /www
echo "${WORKING}"
while :; do wget -q -O /dev/null http://127.0.0.1/file; done`,
  writer: `tr '\\0' x < /dev/zero | head -c 67108864 > /tmp/a
echo "${WORKING}"
while :; do dd if=/tmp/a of=/tmp/b bs=1M conv=notrunc 2>/dev/null; done`,
} as const;
const TITLE_WIDTH = 48;
const TITLES = { http: "serves files by HTTP to itself", writer: "writes 64 MiB over and over" } as const;
type GuestName = keyof typeof GUESTS;

export interface Sample {
  readonly downtimeMs: number;
  readonly totalMs: number;
  readonly megabytes: number;
  /** What else is to be told of this one. */
  readonly note?: string;
}
interface Machine {
  move(): Promise<Sample>;
  /** Lets it run, or stand still while another is measured. */
  run(): Promise<void>;
  rest(): Promise<void>;
  end(): Promise<void>;
}
interface Files {
  readonly vmlinux: string;
  readonly bzImage: string;
  readonly ramdisk: string;
  readonly folder: string;
}

/** One guest, which moves in two ways. */
async function startOurs({ bzImage, ramdisk, folder }: Files): Promise<{ preCopy: Machine; postCopy: Machine }> {
  const servers = ["a", "b"].map((name) => new TestServer(join(folder, randomUUID(), name)));
  const spec = {
    name: "bench",
    uuid: randomUUID(),
    kernel: bzImage,
    ramdisk,
    memory: MEMORY_MIB,
    cmdline: "console=hvc0 quiet",
  };
  let here: DomainProcess = servers[0]!.start(spec);
  await working("ours", async () => {
    const { base64 } = await (await here.client()).call("console-read", {});
    return Buffer.from(base64, "base64").toString("latin1");
  });
  let next = 1;
  const movedBy = (postCopy: boolean): Machine => ({
    move: async () => {
      const move = await moveTo(servers[next++ % 2]!, here, spec, { postCopy });
      const { downtimeMs, totalMs, sentBytes, rounds, downtime } = reportOf(move);
      here = move.there;
      const parts = Object.entries(downtime).map(([name, ms]) => `${name} ${ms.toFixed(1)}`);
      return { downtimeMs, totalMs, megabytes: sentBytes / 1e6, note: `rounds ${rounds}, ${parts.join(", ")}` };
    },
    run: async () => void (await (await here.client()).call("unpause", {})),
    rest: async () => void (await (await here.client()).call("pause", {})),
    // Removed once, with the other.
    end: async () => {
      if (!postCopy) for (const server of servers) await server.remove();
    },
  });
  return { preCopy: movedBy(false), postCopy: movedBy(true) };
}

class QemuMachine implements Machine {
  readonly #files: Files;
  #process!: ChildProcess;
  #qmp!: Qmp;
  #text = "";

  constructor(files: Files) {
    this.#files = files;
  }

  static async start(files: Files): Promise<QemuMachine> {
    const machine = new QemuMachine(files);
    [machine.#process, machine.#qmp] = await machine.#launch();
    machine.#process.stdout!.on("data", (bytes: Buffer) => (machine.#text += bytes.toString("latin1")));
    await working("QEMU", async () => {
      if (machine.#process.exitCode !== null) throw new Error(`QEMU ended with ${machine.#process.exitCode}`);
      return machine.#text;
    });
    return machine;
  }

  async #launch(incoming?: string): Promise<[ChildProcess, Qmp]> {
    const { vmlinux, ramdisk, folder } = this.#files;
    const socket = join(folder, `${randomUUID().slice(0, 8)}.qmp`);
    const machine = `-M microvm,acpi=off,rtc=on ${FIXED_ARGS}`;
    const given = ["-accel", "tcg", "-cpu", TCG_CPU, "-m", String(MEMORY_MIB), "-kernel", vmlinux, "-initrd", ramdisk];
    const args = [...machine.split(" "), ...given, "-append", "console=ttyS0 quiet loglevel=3"];
    const more = ["-qmp", `unix:${socket},server=on,wait=off`, ...(incoming ? ["-incoming", `unix:${incoming}`] : [])];
    const child = spawn(...tied("qemu-system-x86_64", [...args, ...more]), { stdio: ["ignore", "pipe", "inherit"] });
    child.stdout.resume();
    return [child, await Qmp.connect(socket)];
  }

  async move(): Promise<Sample> {
    const path = join(this.#files.folder, `${randomUUID().slice(0, 8)}.mig`);
    const [child, qmp] = await this.#launch(path);
    await this.#qmp.run("migrate-set-parameters", { "max-bandwidth": UNBOUNDED });
    await this.#qmp.run("migrate", { uri: `unix:${path}` });
    for (let [begin, isForced] = [performance.now(), false]; ; await sleep(20)) {
      const found = await this.#qmp.run<QueryMigrate>("query-migrate", {});
      if (found.status === "failed" || found.status === "cancelled")
        throw new Error(`QEMU could not move it: ${found["error-desc"] ?? found.status}`);
      if (found.status === "completed") {
        await this.end();
        [this.#process, this.#qmp] = [child, qmp];
        const { downtime = 0, "total-time": totalMs = 0, ram } = found;
        return { downtimeMs: downtime, totalMs, megabytes: (ram?.transferred ?? 0) / 1e6 };
      }
      const tookMs = performance.now() - begin;
      if (tookMs > MOVE_SECONDS * 1000)
        throw new Error(`QEMU: a move did not end within ${MOVE_SECONDS} s: ${JSON.stringify(found)}`);
      if (isForced || tookMs < PATIENCE_MS) continue;
      isForced = true;
      await this.#qmp.run("migrate-set-parameters", { "downtime-limit": LONGEST_STILL_MS });
    }
  }

  async run(): Promise<void> {
    await this.#qmp.run("cont", {});
  }
  async rest(): Promise<void> {
    await this.#qmp.run("stop", {});
  }

  async end(): Promise<void> {
    this.#qmp.close();
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const closed = new Promise((resolve) => this.#process.once("close", resolve));
    this.#process.kill("SIGKILL");
    await within(END_SECONDS, "the end of QEMU's process", closed);
  }
}

interface QueryMigrate {
  readonly status: string;
  readonly downtime?: number;
  readonly "total-time"?: number;
  readonly "error-desc"?: string;
  readonly ram?: { readonly transferred: number };
}

/** Waits until a guest is at its work. @throws Error  its console, if it does not come to that */
async function working(machine: string, console: () => Promise<string>): Promise<void> {
  const deadline = performance.now() + WORKING_SECONDS * 1000;
  for (;;) {
    const text = await within(END_SECONDS, `${machine}: the console`, console());
    if (text.includes(WORKING)) return;
    if (performance.now() > deadline)
      throw new Error(`${machine}: the guest is not at work within ${WORKING_SECONDS} s\n${text.slice(-1500)}`);
    await sleep(100);
  }
}

/** @returns lines of a table */
export async function benchMigration(repetitions: number, progress: (line: string) => void): Promise<string[]> {
  const debian = await DebianGuest.open();
  if (typeof debian === "string") throw new Error(debian);
  const hasQemu = spawnSync("qemu-system-x86_64", ["--version"]).error === undefined;
  if (!hasQemu) progress("qemu-system-x86_64 is not installed: only ours is measured");
  const folder = mkdtempSync(join(tmpdir(), "xeno-mb-"));
  const rows = [
    `${"".padEnd(TITLE_WIDTH)} ${"still, ms".padStart(10)} ${"total, ms".padStart(10)} ${"sent, MB".padStart(10)}`,
  ];
  try {
    for (const name of Object.keys(GUESTS) as GuestName[]) {
      const config = await debian.config({ script: `#!/bin/sh\n${GUESTS[name]}\n`, customise: () => {} });
      const { bzImage, vmlinux } = openKernel(debian.kernel);
      const files = { bzImage, vmlinux, ramdisk: config.ramdisk!, folder };
      const { preCopy, postCopy } = await startOurs(files);
      const machines: Record<string, Machine> = { ours: preCopy, "ours, post-copy": postCopy };
      try {
        await preCopy.rest();
        if (hasQemu) {
          machines["QEMU TCG"] = await QemuMachine.start(files);
          await machines["QEMU TCG"].rest();
        }
        const samples = await takeTurns(machines, repetitions, (line) => progress(`${name}: ${line}`));
        for (const [machine, all] of Object.entries(samples)) rows.push(rowOf(`${TITLES[name]}, ${machine}`, all));
      } finally {
        for (const machine of Object.values(machines)) await machine.end();
      }
    }
    return rows;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function takeTurns(machines: Record<string, Machine>, repetitions: number, progress: (line: string) => void) {
  const samples: Record<string, Sample[]> = {};
  for (let n = 0; n < repetitions; n++)
    for (const [name, machine] of Object.entries(machines)) {
      await within(END_SECONDS, `${name}: letting it run`, machine.run());
      await sleep(WORK_MS);
      const sample = await within(MOVE_SECONDS + END_SECONDS, `${name}: a move`, machine.move());
      await within(END_SECONDS, `${name}: letting it rest`, machine.rest());
      (samples[name] ??= []).push(sample);
      const { downtimeMs, totalMs, megabytes, note } = sample;
      const figures = `${downtimeMs.toFixed(0)} ms of ${totalMs.toFixed(0)}, ${megabytes.toFixed(0)} MB`;
      progress(`${name}: ${figures}${note === undefined ? "" : ` (${note})`}`);
    }
  return samples;
}

const rowOf = (title: string, samples: readonly Sample[]): string => {
  const of = (key: "downtimeMs" | "totalMs" | "megabytes"): string =>
    median(samples.map((sample) => sample[key]))!
      .toFixed(0)
      .padStart(10);
  return `${title.padEnd(TITLE_WIDTH)} ${of("downtimeMs")} ${of("totalMs")} ${of("megabytes")}`;
};
