/**
 * A process that is started before there is a domain for it, so that one which goes on from a file does so at once; or several, which
 * share its threads and code. It is told of them at its standard input, and ends with the last of them, or when that ends before
 * the first.
 */
import { randomBytes } from "node:crypto";
import { appendFileSync, createWriteStream, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { finished } from "node:stream/promises";
import { DomainMemory } from "@xenoserver/cpu";
import { framesNeeded } from "@xenoserver/xen";
import { SharedThreads } from "../domain/shared-threads.ts";
import { RecordReader, RecordType, RecordWriter } from "../save/records.ts";
import { fetchFromFile } from "../snapshot/frames.ts";
import { openSaved } from "../snapshot/index.ts";
import { isSnapshot, SharedSnapshot } from "../snapshot/snapshot-file.ts";
import { type HostedDomain, hostDomain, logLine, specIn, tellFailure } from "./hosting.ts";
import { LOG_FILE, type ZygoteReply, type ZygoteRequest } from "./process-folder.ts";

/** @param folder  its own, which goes with it */
export async function main(folder: string): Promise<void> {
  for (const signal of ["SIGHUP", "SIGINT", "SIGPIPE"] as const) process.on(signal, () => {});
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  // Who started it may be gone.
  process.stdout.on("error", () => {});
  const zygote = new Zygote(folder);
  process.on("SIGTERM", () => zygote.destroy());
  for await (const line of createInterface({ input: process.stdin })) zygote.take(JSON.parse(line) as ZygoteRequest);
  zygote.take({ kind: "seal" });
}

class Zygote {
  readonly #folder: string;
  readonly #threads = new SharedThreads();
  readonly #snapshots = new Map<string, Promise<SharedSnapshot>>();
  readonly #domains = new Set<HostedDomain>();
  /** Domains that are on their way. */
  #coming = 0;
  #isSealed = false;
  /** Ends by itself, and has files in the folder until then. */
  #rehearsal: Promise<void> | undefined;

  constructor(folder: string) {
    this.#folder = folder;
  }

  take(request: ZygoteRequest): void {
    if (request.kind === "warm") {
      const { vcpus, memoryMib } = request;
      const memory = DomainMemory.create(vcpus, framesNeeded(memoryMib));
      rehearse(memory);
      void this.#threads.warm(memory).then(() => this.#rehearse());
    } else if (request.kind === "host") void this.#host(request.folder, request.isAlone);
    else {
      this.#isSealed = true;
      this.#look();
    }
  }

  #rehearse(): void {
    if (this.#isSealed || this.#coming > 0) return;
    // Without it the first domain comes a little later.
    this.#rehearsal ??= rehearseReading(join(this.#folder, "rehearsal")).catch(() => {});
  }

  destroy(): void {
    for (const { host } of this.#domains) void host.destroy();
  }

  async #host(folder: string, isAlone: boolean): Promise<void> {
    this.#coming++;
    this.#threads.hold();
    try {
      const spec = specIn(folder);
      const from = await this.#open(spec.restore);
      const log = (message: string): void => appendFileSync(join(folder, LOG_FILE), logLine(message), { mode: 0o600 });
      const domain = await hostDomain(folder, spec, from, log, { shared: this.#threads, isAlone });
      this.#domains.add(domain);
      void domain.ended.then(() => {
        this.#domains.delete(domain);
        this.#look();
      });
    } catch (error) {
      tellFailure(folder, error);
    }
    process.stdout.write(`${JSON.stringify({ folder } satisfies ZygoteReply)}\n`);
    this.#coming--;
    this.#threads.release();
    this.#look();
  }

  /** @throws SaveError */
  async #open(path: string | undefined) {
    if (path === undefined) return undefined;
    if (!isSnapshot(path)) return openSaved(path);
    let snapshot = this.#snapshots.get(path);
    if (snapshot === undefined) {
      snapshot = SharedSnapshot.open(path);
      this.#snapshots.set(path, snapshot);
    }
    return (await snapshot).file();
  }

  /** Gives back what is not needed any more. */
  #look(): void {
    if (!this.#isSealed || this.#coming > 0) return;
    for (const snapshot of this.#snapshots.values())
      snapshot.then(
        (open) => open.close(),
        () => {},
      );
    this.#snapshots.clear();
    this.#threads.dropIdle();
    if (this.#domains.size === 0) void this.#end();
  }

  async #end(): Promise<void> {
    // A thread that still begins or ends writes its cache of code into the folder, which would be left.
    await Promise.all([this.#threads.end(), this.#rehearsal]);
    process.exit();
  }
}

/** Code that runs for the first time takes many times as long as later: a domain that goes on is not to wait for that. */
function rehearse(memory: DomainMemory): void {
  const { frameCount } = memory;
  const map = new Uint32Array(2 + frameCount * 2);
  const slots = new Uint32Array(frameCount * 2);
  map[0] = frameCount;
  for (let frame = 0; frame < frameCount; frame++) {
    map[2 + frame * 2] = frame;
    map[3 + frame * 2] = frame;
    slots[frame * 2] = frame;
    // Sums are numbers of 32 bits, and code that was made for smaller ones would be made anew.
    slots[frame * 2 + 1] = 0xffff_ffff - frame;
  }
  memory.loadMap(map);
  fetchFromFile(memory, slots, { fd: -1, path: "" });
}

/** As many bytes as a snapshot of 512 MiB has in its longest record. */
const REHEARSED_BYTES = 1 << 20;

/** The same for what reads records: of a new process it takes most of the time until a snapshot's are there. */
async function rehearseReading(path: string): Promise<void> {
  const file = createWriteStream(path, { mode: 0o600 });
  try {
    const writer = new RecordWriter(file, true);
    await writer.write(RecordType.map, randomBytes(REHEARSED_BYTES));
    await writer.close();
    await finished(file);
    const reader = await RecordReader.ofFile(path);
    while ((await reader.next()).type !== RecordType.end);
    reader.close();
  } finally {
    file.destroy();
    rmSync(path, { force: true });
  }
}
