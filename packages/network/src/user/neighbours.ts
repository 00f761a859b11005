/** Which MAC address the guests' IP addresses have, learned from what they send; who was not heard of is asked for. */
import type { IpAddress } from "../wire/address.ts";
import type { Mac } from "../wire/ethernet.ts";

const MAX_NEIGHBOURS = 512;
/** As Linux's own neighbour table. */
const ASK_EVERY_MS = 1000;
const MAX_ASKED = 3;

interface Search {
  readonly found: Promise<Mac | undefined>;
  settle(mac: Mac | undefined): void;
}

export class Neighbours {
  readonly #ask: (address: IpAddress) => void;
  readonly #macs = new Map<IpAddress, Mac>();
  readonly #searches = new Map<IpAddress, Search>();

  /** @param ask  has whoever has an address say so */
  constructor(ask: (address: IpAddress) => void) {
    this.#ask = ask;
  }

  learn(address: IpAddress, mac: Mac): void {
    if (this.#macs.get(address) === mac) return;
    this.#macs.delete(address);
    if (this.#macs.size >= MAX_NEIGHBOURS) this.#macs.delete(this.#macs.keys().next().value!);
    this.#macs.set(address, mac);
    this.#searches.get(address)?.settle(mac);
  }

  /** @returns undefined if nobody has said to have the address, and nobody answers to it */
  async find(address: IpAddress): Promise<Mac | undefined> {
    const known = this.#macs.get(address);
    if (known !== undefined) return known;
    return (this.#searches.get(address) ?? this.#search(address)).found;
  }

  #search(address: IpAddress): Search {
    const { promise: found, resolve } = Promise.withResolvers<Mac | undefined>();
    let asked = 0;
    const ask = (): void => {
      if (asked++ === MAX_ASKED) return search.settle(undefined);
      this.#ask(address);
    };
    const timer = setInterval(ask, ASK_EVERY_MS);
    const search = {
      found,
      settle: (mac: Mac | undefined) => {
        clearInterval(timer);
        this.#searches.delete(address);
        resolve(mac);
      },
    };
    this.#searches.set(address, search);
    ask();
    return search;
  }

  /** Nobody is looked for any more. */
  close(): void {
    for (const search of [...this.#searches.values()]) search.settle(undefined);
  }
}
