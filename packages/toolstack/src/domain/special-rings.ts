/**
 * The two rings that a guest finds when it begins, console and xenstore: each is a page that the builder made, with an event
 * channel beside it.
 */
import type { DomainMemory, Gfn } from "@xenoserver/cpu";
import { ConsoleBackend } from "@xenoserver/devices";
import type { BuiltDomain, HostEventChannels } from "@xenoserver/xen";
import { identifyDomain, type LocalClient, populateDomain, XenstoreDaemon } from "@xenoserver/xenstore";
import { type DomainConfig, memoryAtStartMib, vcpusAtStart } from "../cfg/index.ts";
import type { SavedBackends } from "../save/index.ts";
import type { DomainListener } from "./running-domain.ts";

/** What connects them to their backends. */
export interface RingsOptions {
  readonly config: DomainConfig;
  readonly memory: DomainMemory;
  readonly built: Pick<BuiltDomain, "domain" | "consoleGfn" | "consolePort" | "xenstoreGfn" | "xenstorePort">;
  readonly channels: HostEventChannels;
  readonly listener: DomainListener;
  /** With what they go on, if the domain was saved. */
  readonly saved: Pick<SavedBackends, "console" | "xenstore"> | undefined;
}

const CONSOLE_CHUNK_BYTES = 16384;

export class SpecialRings {
  /** A privileged client of the domain's xenstore. */
  readonly store: LocalClient;
  readonly #options: RingsOptions;
  readonly #console: ConsoleBackend;
  readonly #xenstore: XenstoreDaemon;
  #drained = Promise.withResolvers<void>();
  #ended = false;

  constructor(options: RingsOptions) {
    this.#options = options;
    this.#xenstore = new XenstoreDaemon({ log: (message) => options.listener.onLog?.(message) });
    this.#console = this.#connectConsole();
    this.store = this.#connectXenstore();
  }

  /**
   * Types bytes at the guest's console.
   * @returns settled when there is room for more, or the domain has ended; never rejects
   */
  async writeConsole(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length && !this.#ended; at += CONSOLE_CHUNK_BYTES) {
      const chunk = bytes.subarray(at, at + CONSOLE_CHUNK_BYTES);
      while (!this.#ended && !this.#console.write(chunk)) await this.#drained.promise;
    }
  }

  exportState(): Pick<SavedBackends, "console" | "xenstore"> {
    return { console: this.#console.exportState(), xenstore: this.#xenstore.exportState() };
  }

  /** To be called when the vcpus have stopped. */
  end(): void {
    // The guest's last words may have arrived after its last notification was seen.
    this.#console.releaseOutput();
    this.#ended = true;
    this.#drained.resolve();
  }

  get #domid(): number {
    return this.#options.built.domain.domid;
  }

  #connectConsole(): ConsoleBackend {
    const { built, listener, saved } = this.#options;
    const backend: ConsoleBackend = new ConsoleBackend({
      name: `dom${this.#domid} console`,
      ...this.#ringOf(built.consoleGfn, built.consolePort, () => backend.onEvent()),
      onOutput: (bytes) => {
        const taken = listener.onConsole(bytes);
        if (taken === undefined) return;
        backend.holdOutput();
        void taken.finally(() => backend.releaseOutput());
      },
      onInputDrained: () => {
        this.#drained.resolve();
        this.#drained = Promise.withResolvers();
      },
      log: (message) => listener.onLog?.(message),
    });
    if (saved !== undefined) backend.importState(saved.console);
    return backend;
  }

  #connectXenstore(): LocalClient {
    const { config, built, saved } = this.#options;
    const daemon = this.#xenstore;
    const client = daemon.openLocal();
    if (saved !== undefined) {
      daemon.importState(saved.xenstore);
      identifyDomain(client, this.#domid, config);
    } else
      populateDomain(client, {
        domid: this.#domid,
        uuid: config.uuid,
        name: config.name,
        memoryKiB: memoryAtStartMib(config) * 1024,
        maxMemoryKiB: config.memoryMib * 1024,
        nrVcpus: config.vcpus,
        nrOnline: vcpusAtStart(config),
        xenstorePort: built.xenstorePort,
        xenstoreGfn: built.xenstoreGfn,
        consolePort: built.consolePort,
        consoleGfn: built.consoleGfn,
        startTime: Math.floor(Date.now() / 1000),
      });
    const connection = daemon.introduce(
      this.#domid,
      this.#ringOf(built.xenstoreGfn, built.xenstorePort, () => connection.onEvent()),
    );
    const own = saved?.xenstore.connections.find(({ domid }) => domid === this.#domid);
    if (own !== undefined) connection.importState(own);
    return client;
  }

  /** A page that the builder shared with the backends, and the event channel beside it. */
  #ringOf(gfn: Gfn, port: number, onEvent: () => void) {
    const { config, memory, channels } = this.#options;
    const frame = memory.frameAt(gfn);
    const channel = channels.bindInterdomain(port, onEvent);
    if (frame === -1 || channel === undefined)
      throw new Error(`domain ${config.name}: port ${port} was built without a page`);
    return {
      page: memory.frameBytes(frame),
      notify: () => channel.notify(),
      markWritten: () => memory.markWritten(frame),
    };
  }
}
