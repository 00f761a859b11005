/** Which addresses of the outside a guest may reach, and what stands behind those of the network itself. */
import { networkInterfaces } from "node:os";
import { AddressBlock, canonical, type IpAddress } from "../wire/address.ts";

export interface EgressConfig {
  /** Let the guest reach this host: its own addresses, and its loopback under the gateway's address. */
  readonly host: boolean;
  /** Blocks that may be reached whatever else is said. */
  readonly allow: readonly AddressBlock[];
  readonly deny: readonly AddressBlock[];
}

/** The network's own addresses. */
export interface OwnAddresses {
  readonly gateway: readonly IpAddress[];
  readonly dns: readonly IpAddress[];
  readonly blocks: readonly AddressBlock[];
}

/**
 * Never meant for a guest: this host, nobody, links (where clouds keep their metadata), groups, and IPv4 addresses in
 * IPv6's clothes, which would get around the other rules.
 */
export const CLOSED_BLOCKS: readonly AddressBlock[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "::/96",
  "::ffff:0:0/96",
  "64:ff9b::/96",
  "fe80::/10",
  "ff00::/8",
].map((text) => AddressBlock.parse(text)!);

const HOST_ADDRESSES_MS = 10_000;

export class Egress {
  readonly #config: EgressConfig;
  readonly #own: OwnAddresses;
  readonly #hostAddresses: () => ReadonlySet<IpAddress>;

  constructor(config: EgressConfig, own: OwnAddresses, hostAddresses = cachedHostAddresses()) {
    this.#config = config;
    this.#own = own;
    this.#hostAddresses = hostAddresses;
  }

  /** @returns the address for the host to talk to, or undefined if the guest may not reach it */
  target(address: IpAddress): IpAddress | undefined {
    if (this.#own.gateway.includes(address)) {
      if (!this.#config.host) return undefined;
      return address.includes(":") ? "::1" : "127.0.0.1";
    }
    if (this.#own.blocks.some((block) => block.holdsAddress(address))) return undefined;
    const within = (block: AddressBlock): boolean => block.holdsAddress(address);
    if (this.#config.allow.some(within)) return address;
    if (CLOSED_BLOCKS.some(within) || this.#config.deny.some(within)) return undefined;
    if (!this.#config.host && this.#hostAddresses().has(address)) return undefined;
    return address;
  }

  isDns(address: IpAddress): boolean {
    return this.#own.dns.includes(address);
  }
}

function cachedHostAddresses(): () => ReadonlySet<IpAddress> {
  let readMs = Number.NEGATIVE_INFINITY;
  let addresses: ReadonlySet<IpAddress> = new Set();
  return () => {
    const now = performance.now();
    if (now - readMs > HOST_ADDRESSES_MS) {
      const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
      addresses = new Set(all.map(({ address }) => canonical(address.split("%")[0]) ?? address));
      readMs = now;
    }
    return addresses;
  };
}
