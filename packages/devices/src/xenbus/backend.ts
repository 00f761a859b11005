/**
 * The host's end of a device: follows the guest's driver through the handshake, as often as the guest starts it anew.
 *
 *     guest                        host
 *     Initialising                 InitWait       features are published
 *     Initialised or Connected     Connected      rings are mapped
 *     Closing                      Closing
 *     Closed                       Closed         rings are unmapped
 *     Initialising                 InitWait       (a new driver, e.g. after kexec)
 *
 * Steps that wait, for requests in flight, are taken one after the other; what the guest wrote meanwhile is looked at behind
 * each, so that a guest that changes its mind faster than the disk answers is served its last word.
 */
import type { WatchHandle } from "@xenoserver/xenstore";
import type { Device, SavedDevice } from "./device.ts";
import { type BackendDriver, type BackendHost, type Connection, DeviceError, type Nodes } from "./driver.ts";
import { frontendKeys } from "./frontend-keys.ts";
import { BACKEND_DOMID, type DevicePaths, devicePaths, parseXenbusState, XenbusState } from "./protocol.ts";

interface SavedBackend {
  readonly state: XenbusState;
  readonly connection?: unknown;
  readonly connectionVersion: number;
}

const STATE_VERSION = 1;

export class XenbusBackend implements Device {
  /** "dom3 vbd 51712". */
  readonly name: string;
  readonly devid: number;
  readonly #host: BackendHost;
  readonly #driver: BackendDriver;
  readonly #paths: DevicePaths;
  #state: XenbusState = XenbusState.Initialising;
  #connection: Connection | undefined;
  /** Tells an old connection's complaints from those of the present one. */
  #attempt = 0;
  #watch: WatchHandle | undefined;
  #saved: SavedBackend | undefined;
  #failure: DeviceError | undefined;
  #paused = false;
  #stopped = false;
  #unplugging = false;
  #following: Promise<void> | undefined;
  #lookAgain = false;
  #closed = Promise.withResolvers<void>();

  constructor(host: BackendHost, driver: BackendDriver, devid: number) {
    this.#host = host;
    this.#driver = driver;
    this.devid = devid;
    this.name = `dom${host.domid} ${driver.deviceClass} ${devid}`;
    this.#paths = devicePaths(driver.deviceClass, host.domid, devid);
  }

  /** What the backend shows the guest now. */
  get state(): XenbusState {
    return this.#state;
  }

  start(): void {
    if (this.#saved === undefined) this.#createNodes();
    else this.#takeUp(this.#saved);
    this.#watch = this.#host.store.watch(`${this.#paths.frontend}/state`, () => this.#follow());
  }

  /** Both directories appear together, so that the guest never sees half a device. */
  #createNodes(): void {
    const { frontend, backend } = this.#paths;
    const { domid, store } = this.#host;
    store.transaction((access) => {
      const put = (folder: string, nodes: Nodes, permissions: readonly string[]): void => {
        access.rm(folder);
        access.mkdir(folder);
        access.setPermissions(folder, permissions);
        for (const [key, value] of Object.entries(nodes)) {
          access.write(`${folder}/${key}`, value);
          access.setPermissions(`${folder}/${key}`, permissions);
        }
      };
      const state = String(XenbusState.Initialising);
      put(backend, { frontend, "frontend-id": String(domid), online: "1", state, ...this.#driver.backendNodes() }, [
        `n${BACKEND_DOMID}`,
        `r${domid}`,
      ]);
      put(frontend, { backend, "backend-id": String(BACKEND_DOMID), state, ...this.#driver.frontendNodes() }, [
        `n${domid}`,
        `r${BACKEND_DOMID}`,
      ]);
    });
    this.#show(XenbusState.InitWait);
  }

  #takeUp(saved: SavedBackend): void {
    this.#state = saved.state;
    const { store } = this.#host;
    for (const [key, value] of Object.entries(this.#driver.identityNodes?.() ?? {}))
      for (const folder of [this.#paths.frontend, this.#paths.backend])
        if (store.read(`${folder}/${key}`) !== value) store.write(`${folder}/${key}`, value);
    if (saved.connection !== undefined) this.#connect(saved.connection);
  }

  #frontendState(): XenbusState {
    return parseXenbusState(this.#host.store.read(`${this.#paths.frontend}/state`));
  }

  #show(state: XenbusState): void {
    this.#state = state;
    this.#host.store.write(`${this.#paths.backend}/state`, String(state));
    if (state === XenbusState.Closed) this.#closed.resolve();
  }

  #publish(nodes: Nodes): void {
    for (const [key, value] of Object.entries(nodes)) this.#host.store.write(`${this.#paths.backend}/${key}`, value);
  }

  #follow(): void {
    this.#lookAgain = true;
    this.#following ??= this.#followUntilQuiet();
  }

  async #followUntilQuiet(): Promise<void> {
    do {
      this.#lookAgain = false;
      await this.#step().catch((error: unknown) => this.#host.log(`${this.name}: ${String(error)}`));
    } while (this.#lookAgain && !this.#stopped);
    // In the same breath as the last look: a change that came in between would wait for the one after it.
    this.#following = undefined;
  }

  async #step(): Promise<void> {
    if (this.#failure !== undefined) return this.#giveUp(this.#failure);
    switch (this.#frontendState()) {
      case XenbusState.Initialising:
        return this.#offer();
      case XenbusState.Initialised:
      case XenbusState.Connected:
        if (this.#state === XenbusState.InitWait && !this.#unplugging) this.#connect();
        return;
      case XenbusState.Closing:
        if (this.#state !== XenbusState.Closed && this.#state !== XenbusState.Closing) this.#show(XenbusState.Closing);
        return;
      case XenbusState.Closed:
      case XenbusState.Unknown:
        await this.#disconnect();
        if (this.#state !== XenbusState.Closed) this.#show(XenbusState.Closed);
    }
  }

  /** The guest begins: from the start, after it closed, or without having closed. */
  async #offer(): Promise<void> {
    if (this.#state === XenbusState.InitWait || this.#unplugging) return;
    await this.#disconnect();
    this.#publish(this.#driver.backendNodes());
    this.#show(XenbusState.InitWait);
  }

  #connect(saved?: unknown): void {
    const { store, log } = this.#host;
    const attempt = ++this.#attempt;
    try {
      const connection = this.#driver.connect({
        frontend: frontendKeys(store, this.#paths.frontend, this.name),
        name: this.name,
        fail: (error) => {
          if (this.#attempt !== attempt) return;
          this.#attempt++;
          this.#failure = error;
          this.#follow();
        },
        saved,
      });
      this.#connection = connection;
      if (this.#paused) connection.pause();
      if (saved !== undefined) return;
      if (connection.properties !== undefined) this.#publish(connection.properties);
      this.#show(XenbusState.Connected);
    } catch (error) {
      if (!(error instanceof DeviceError)) log(`${this.name}: ${error instanceof Error ? error.stack : String(error)}`);
      this.#failure = error instanceof DeviceError ? error : new DeviceError(`${this.name}: internal error`);
      this.#follow();
    }
  }

  /** Closes a device whose guest broke its protocol; the guest may begin again. */
  async #giveUp(error: DeviceError): Promise<void> {
    this.#failure = undefined;
    this.#lookAgain = true;
    this.#host.log(error.message);
    await this.#disconnect();
    this.#host.store.write(`${this.#paths.backend}/error`, error.message);
    if (this.#state !== XenbusState.Closing) this.#show(XenbusState.Closing);
  }

  async #disconnect(): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#attempt++;
    await connection.close();
    this.#connection = undefined;
  }

  /**
   * Publishes new values of the connection's properties and has the guest read them again, as when a disk has grown. Without
   * effect on a guest that is not connected: it reads them when it connects.
   */
  announce(properties: Nodes): void {
    if (this.#state !== XenbusState.Connected) return;
    this.#publish(properties);
    this.#show(XenbusState.Connected);
  }

  pause(): void {
    this.#paused = true;
    this.#connection?.pause();
  }

  async paused(): Promise<void> {
    await this.#following;
    await this.#connection?.paused();
  }

  resume(): void {
    this.#paused = false;
    this.#connection?.resume();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#watch?.unwatch();
    await this.#following;
    await this.#disconnect();
    this.#closed.resolve();
  }

  /**
   * Takes the device away: asks the guest to let go of it, stops, and removes its nodes.
   * @param graceMs  how long the guest may take before it is not asked any longer
   * @returns        whether the guest let go by itself
   */
  async unplug(graceMs: number): Promise<boolean> {
    this.#unplugging = true;
    this.#host.store.write(`${this.#paths.backend}/online`, "0");
    const inUse = this.#state === XenbusState.Connected || this.#state === XenbusState.Closing;
    let agreed = !inUse;
    if (inUse) {
      this.#closed = Promise.withResolvers();
      if (this.#state !== XenbusState.Closing) this.#show(XenbusState.Closing);
      const timer = setTimeout(() => this.#closed.resolve(), graceMs);
      await this.#closed.promise;
      clearTimeout(timer);
      agreed = (this.#state as XenbusState) === XenbusState.Closed;
    }
    await this.stop();
    this.#host.store.transaction((access) => {
      access.rm(this.#paths.frontend);
      access.rm(this.#paths.backend);
    });
    return agreed;
  }

  exportState(): SavedDevice {
    const data: SavedBackend = {
      state: this.#state,
      connectionVersion: this.#driver.stateVersion,
      ...(this.#connection !== undefined && { connection: this.#connection.exportState() }),
    };
    return { kind: this.#driver.deviceClass, devid: this.devid, version: STATE_VERSION, data };
  }

  importState(saved: SavedDevice): void {
    const { kind, version } = saved;
    if (kind !== this.#driver.deviceClass || version !== STATE_VERSION) {
      throw new TypeError(
        `${this.name}: state is ${kind} version ${version}, expected ${this.#driver.deviceClass} version ${STATE_VERSION}`,
      );
    }
    const data = saved.data as SavedBackend;
    if (data.connectionVersion !== this.#driver.stateVersion) {
      throw new TypeError(
        `${this.name}: connection state has version ${data.connectionVersion}, expected ${this.#driver.stateVersion}`,
      );
    }
    this.#saved = data;
  }
}
