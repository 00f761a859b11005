/** A guest's drivers as xenstore sees them, and a host around them, for tests of backends. */
import { HostEventChannels, HostGrants } from "@xenoserver/xen";
import { XsType } from "@xenoserver/xen/abi/xs-wire.ts";
import { TestDomain } from "@xenoserver/xen/testing/test-domain.ts";
import { type LocalClient, populateDomain, XenstoreDaemon } from "@xenoserver/xenstore";
import { GuestClient } from "@xenoserver/xenstore/testing/guest-client.ts";
import type { BackendHost } from "../driver.ts";
import type { XenbusState } from "../protocol.ts";

export class FakeGuest {
  readonly domain = new TestDomain({ nrVcpus: 1, memoryMiB: 8 });
  readonly daemon = new XenstoreDaemon();
  readonly store: LocalClient;
  readonly host: BackendHost;
  readonly logs: string[] = [];
  readonly channels: HostEventChannels;
  readonly #client: GuestClient;

  constructor() {
    const { domid } = this.domain.domain;
    this.store = this.daemon.openLocal();
    populateDomain(this.store, {
      domid,
      uuid: "00000000-0000-0000-0000-000000000000",
      name: "fake",
      memoryKiB: 8192,
      maxMemoryKiB: 8192,
      nrOnline: 1,
      nrVcpus: 1,
      xenstorePort: 1,
      xenstoreGfn: 1,
      consolePort: 2,
      consoleGfn: 2,
      startTime: 0,
    });
    this.#client = new GuestClient(this.daemon, domid);
    this.channels = new HostEventChannels(this.domain.domain);
    this.host = {
      domid,
      store: this.store,
      grants: new HostGrants(this.domain.domain),
      channels: this.channels,
      log: (message) => this.logs.push(message),
    };
  }

  /** Writes as the guest does; the reply is "OK|" or "!" and an error's name. */
  write(path: string, value: string): string {
    return this.#client.call(XsType.WRITE, `${path}\0${value}`);
  }

  /** Reads as the guest does; "!ENOENT" if there is no such node. */
  read(path: string): string {
    return this.#client.call(XsType.READ, [path]);
  }

  remove(path: string): string {
    return this.#client.call(XsType.RM, [path]);
  }

  show(frontend: string, state: XenbusState): void {
    this.write(`${frontend}/state`, String(state));
  }
}

/** Lets watches fire and waiting steps go on. */
export const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
