/** Which MAC address the guests' IP addresses have, learned from what they send. */
import type { IpAddress } from "../wire/address.ts";
import type { Mac } from "../wire/ethernet.ts";

const MAX_NEIGHBOURS = 512;

export class Neighbours {
  readonly #macs = new Map<IpAddress, Mac>();

  learn(address: IpAddress, mac: Mac): void {
    if (this.#macs.get(address) === mac) return;
    this.#macs.delete(address);
    if (this.#macs.size >= MAX_NEIGHBOURS) this.#macs.delete(this.#macs.keys().next().value!);
    this.#macs.set(address, mac);
  }

  macOf(address: IpAddress): Mac | undefined {
    return this.#macs.get(address);
  }
}
