/** Domains in this program's own process: no agent, nothing outlives it. */
import { randomUUID } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { copyOf, type DomainConfig, specOfConfig } from "@xenoserver/toolstack/cfg/index.ts";
import { configOf } from "@xenoserver/toolstack/control/index.ts";
import { Scrollback } from "@xenoserver/toolstack/control/scrollback.ts";
import { launchDomain, type RunningDomain } from "@xenoserver/toolstack/domain/index.ts";
import type { SavedFile } from "@xenoserver/toolstack/save/index.ts";
import { openSaved, removeSnapshot, type SnapshotProgress } from "@xenoserver/toolstack/snapshot/index.ts";
import {
  DEFAULT_READY_MS,
  type Domain,
  type DomainSpec,
  type End,
  type ExecOptions,
  type ExecResult,
  type ForkOptions,
  type Host,
  type SnapshotReport,
  type Watching,
  wordsOf,
} from "./domain.ts";

const SCROLLBACK_BYTES = 256 * 1024;
const PIECE_BYTES = 16 * 1024;

/** A guest that reboots has ended. */
export const inProcess: Host = {
  async create(spec: DomainSpec, { signal }: Watching = {}): Promise<Domain> {
    return unlessAborted(await LocalMachine.start(configOf(spec, "domain").config), signal);
  },
  async restore(path: string, { name, signal }: { readonly name?: string } & Watching = {}): Promise<Domain> {
    return unlessAborted(await goOn(path, name), signal);
  },
};

/** @param taken  as for `copyOf` */
async function goOn(path: string, name?: string, taken?: Set<number>): Promise<LocalMachine> {
  const from = await openSaved(path);
  return LocalMachine.start(name === undefined ? from.config : copyOf(from.config, name, taken), from);
}

async function unlessAborted(machine: Domain, signal: AbortSignal | undefined): Promise<Domain> {
  if (signal?.aborted !== true) return machine;
  await machine.destroy();
  throw signal.reason;
}

class LocalMachine implements Domain {
  readonly name: string;
  readonly uuid: string;
  readonly ended: Promise<End>;
  readonly #config: DomainConfig;
  readonly #domain: RunningDomain;
  readonly #console: Scrollback;
  #copies = 0;

  private constructor(config: DomainConfig, domain: RunningDomain, console: Scrollback) {
    this.name = config.name;
    this.uuid = config.uuid;
    this.#config = config;
    this.#domain = domain;
    this.#console = console;
    this.ended = domain.exited.then(({ reason, detail }) => ({ reason, ...(detail !== undefined && { detail }) }));
  }

  static async start(config: DomainConfig, from?: SavedFile): Promise<LocalMachine> {
    const console = new Scrollback(SCROLLBACK_BYTES);
    const listener = { onConsole: (bytes: Uint8Array) => console.append(bytes) };
    return new LocalMachine(config, await launchDomain(config, listener, from && { from }), console);
  }

  async exec(command: string | readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const { readyMs = DEFAULT_READY_MS, ...rest } = options;
    const agent = await this.#domain.agent();
    await agent.ready(readyMs);
    const { status, stdout, stderr } = await agent.exec(wordsOf(command), rest);
    return { status, stdout, stderr };
  }
  async writeFile(path: string, data: AsyncIterable<Uint8Array> | Uint8Array | string, mode?: number): Promise<void> {
    const agent = await this.#domain.agent();
    await agent.ready(DEFAULT_READY_MS);
    await agent.writeFile(path, data, mode);
  }
  async *readFile(path: string): AsyncGenerator<Uint8Array> {
    const agent = await this.#domain.agent();
    await agent.ready(DEFAULT_READY_MS);
    yield* agent.readFile(path);
  }

  async *console(): AsyncGenerator<Uint8Array> {
    let offset = this.#console.begin;
    let isOver = false;
    void this.ended.then(() => {
      isOver = true;
    });
    for (;;) {
      const piece = this.#console.read(offset, PIECE_BYTES);
      if (piece.bytes.length > 0) {
        offset = piece.offset + piece.bytes.length;
        yield piece.bytes;
      } else if (isOver) return;
      else await this.#more();
    }
  }
  async #more(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const forget = this.#console.onAppend(resolve);
    await Promise.race([promise, this.ended]);
    forget();
  }

  async consoleStream(): Promise<Duplex> {
    const output = this.console();
    return new Duplex({
      read() {
        output.next().then(
          ({ done, value }) => this.push(done === true ? null : value),
          (error: Error) => this.destroy(error),
        );
      },
      write: (bytes: Buffer, _encoding, done) => void this.type(bytes).then(() => done(), done),
    });
  }
  type(text: string | Uint8Array): Promise<void> {
    return this.#domain.writeConsole(Buffer.from(text as string));
  }
  pause(): Promise<void> {
    return this.#domain.pause();
  }
  unpause(): Promise<void> {
    return this.#domain.unpause();
  }
  async shutdown(): Promise<void> {
    this.#domain.store.write(`/local/domain/${this.#domain.domid}/control/shutdown`, "poweroff");
  }
  destroy(): Promise<void> {
    return this.#domain.destroy();
  }
  snapshot(path: string, { onProgress = () => {}, signal }: Watching = {}): Promise<SnapshotReport> {
    const tell = (progress: SnapshotProgress): void => onProgress({ kind: "snapshot", ...progress });
    return this.#domain.snapshot(path, specOfConfig(this.#config), tell, signal && { signal });
  }

  async fork({ count = 1, name = this.name, onProgress = () => {}, signal }: ForkOptions = {}): Promise<Domain[]> {
    const path = join(tmpdir(), `xeno-fork-${randomUUID()}`);
    try {
      await this.snapshot(path, signal && { signal });
      const names = Array.from({ length: count }, () => `${name}-${++this.#copies}`);
      const taken = new Set<number>();
      let madeCount = 0;
      const made = await Promise.allSettled(
        names.map(async (own) => {
          const copy = await goOn(path, own, taken);
          onProgress({ kind: "fork", madeCount: ++madeCount, count });
          return copy;
        }),
      );
      const copies = made.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
      const failed = made.find((result) => result.status === "rejected");
      if (failed === undefined && signal?.aborted !== true) return copies;
      await Promise.all(copies.map((copy) => copy.destroy()));
      throw failed?.reason ?? signal!.reason;
    } finally {
      await removeSnapshot(path);
    }
  }
}
