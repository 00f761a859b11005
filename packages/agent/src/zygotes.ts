/**
 * Processes that were started before there is a domain for them: what goes on from a file does so at once there, and several copies of a
 * domain share one.
 */
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { ZygoteReply, ZygoteRequest } from "@xenoserver/toolstack/control/process-folder.ts";
import type { Confinement } from "./confinement.ts";
import { type GroupLimits, together } from "./group-limits.ts";
import { findProcess, nameZygote, type SpawnedZygote, spawnZygote } from "./spawn.ts";

/** After a domain has begun, or has taken the last one: it is not to be held up. */
const START_AFTER_MS = 3000;

/** What is known of domains before they come. */
export interface DomainSize {
  readonly vcpus: number;
  readonly memoryMib: number;
}

export class Zygote {
  readonly #folder: string;
  readonly #process: SpawnedZygote;
  readonly #waiting = new Map<string, () => void>();
  readonly #confinement: Confinement;
  #limits: GroupLimits | undefined;
  #isGone = false;

  /**
   * @param folder  of its own, with nothing in it; removed with the process
   * @param onGone  told when the process has ended
   */
  constructor(folder: string, confinement: Confinement, onGone: () => void) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#folder = folder;
    this.#confinement = confinement;
    this.#process = spawnZygote(folder, confinement.ofZygote(folder));
    const lines = createInterface({ input: this.#process.replies });
    lines.on("line", (line) => this.#settle((JSON.parse(line) as ZygoteReply).folder));
    lines.on("close", () => {
      this.#isGone = true;
      for (const name of [...this.#waiting.keys()]) this.#settle(name);
      // It removes its folder itself, unless it was killed.
      rmSync(folder, { recursive: true, force: true });
      onGone();
      void confinement.groups.sweep();
    });
  }

  /** It has ended, e.g. because somebody killed it. */
  get isGone(): boolean {
    return this.#process.pid === undefined || this.#isGone;
  }

  /** Says what size domains will have, so that what they need is made before they come. */
  warm({ vcpus, memoryMib }: DomainSize): void {
    this.#tell({ kind: "warm", vcpus, memoryMib });
  }
  /**
   * Has a folder's domain run there.
   * @param isAlone  on threads of its own; of several, each takes a share of the same ones
   * @param limits   what its process may take for it
   * @returns  settled when the folder tells what came of it, or the process is gone
   */
  host(folder: string, isAlone: boolean, limits: GroupLimits): Promise<void> {
    this.#limits = together(this.#limits === undefined ? [limits] : [this.#limits, limits]);
    this.#confinement.groups.limit(this.#folder, this.#limits);
    if (this.#process.pid !== undefined) nameZygote(folder, { folder: this.#folder, pid: this.#process.pid });
    const { promise, resolve } = Promise.withResolvers<void>();
    if (!this.isGone) this.#waiting.set(folder, resolve);
    else resolve();
    this.#tell({ kind: "host", folder, isAlone });
    return promise;
  }
  #settle(folder: string): void {
    this.#waiting.get(folder)?.();
    this.#waiting.delete(folder);
  }
  /** No more domains will come; it ends with the last of those that did. */
  seal(): void {
    this.#tell({ kind: "seal" });
    this.#process.requests.end();
  }

  #tell(request: ZygoteRequest): void {
    this.#process.requests.write(`${JSON.stringify(request)}\n`);
  }
}

/** One is kept ready while the agent has domains, unless that is not wanted. */
export class Zygotes {
  readonly #folder: string;
  readonly #keepsReady: boolean;
  readonly #confinement: Confinement;
  #ready: Zygote | undefined;
  #timer: NodeJS.Timeout | undefined;
  #size: DomainSize | undefined;
  #isClosed = false;
  /** Folders of those that were started here and have not ended. */
  readonly #own = new Set<string>();

  /** @param folder  for theirs; what those that ended without their agent left in it is removed */
  constructor(folder: string, keepsReady: boolean, confinement: Confinement) {
    this.#folder = folder;
    this.#keepsReady = keepsReady;
    this.#confinement = confinement;
    this.#sweep();
  }
  #sweep(): void {
    for (const name of existsSync(this.#folder) ? readdirSync(this.#folder) : []) {
      const left = join(this.#folder, name);
      if (!this.#own.has(left) && findProcess(left) === undefined) rmSync(left, { recursive: true, force: true });
    }
  }

  /** Has one be ready soon, for domains of this size. */
  expect(size: DomainSize): void {
    if (!isSame(this.#size, size)) this.#ready?.warm(size);
    this.#size = size;
    if (this.#ready?.isGone === false || this.#isClosed || !this.#keepsReady) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#ready = this.#start(this.#size!);
    }, START_AFTER_MS).unref();
  }

  /** The one that is ready, or a new one. It is the caller's to seal. */
  take(size: DomainSize): Zygote {
    const ready = this.#ready;
    this.#ready = undefined;
    if (ready === undefined || ready.isGone) return this.#start(size);
    if (!isSame(this.#size, size)) ready.warm(size);
    return ready;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#ready?.seal();
    this.#ready = undefined;
  }

  #start(size: DomainSize): Zygote {
    this.#sweep();
    const folder = join(this.#folder, randomUUID());
    this.#own.add(folder);
    const zygote = new Zygote(folder, this.#confinement, () => this.#own.delete(folder));
    zygote.warm(size);
    return zygote;
  }
}

const isSame = (a: DomainSize | undefined, b: DomainSize): boolean =>
  a?.vcpus === b.vcpus && a.memoryMib === b.memoryMib;
