/** The DHCP server of a user-mode network: an address for each station, kept as long as the network lives. */
import { type AddressBlock, addressAt, type IpAddress, parseAddress } from "../../wire/address.ts";
import { put16, put32 } from "../../wire/bytes.ts";
import { buildDhcpReply, DhcpOption, type DhcpRequest, DhcpType, parseDhcp } from "../../wire/dhcp.ts";
import type { Mac } from "../../wire/ethernet.ts";

export interface DhcpConfig {
  readonly subnet: AddressBlock;
  readonly gateway: Uint8Array;
  readonly dns: Uint8Array;
  readonly mtuBytes: number;
  /** The first address given away, counted from the subnet's; up to `lastHost`. */
  readonly firstHost: number;
  readonly lastHost: number;
  /** Addresses that belong to a station whoever asks first. */
  readonly fixed?: ReadonlyMap<Mac, IpAddress>;
  readonly domain?: string;
}

export interface DhcpReply {
  readonly bytes: Uint8Array;
  /** The client's address, which it may not answer to yet. */
  readonly to: Uint8Array;
  readonly broadcast: boolean;
}

const LEASE_SECONDS = 86_400;
const ANY = new Uint8Array(4);

export class DhcpServer {
  readonly #config: DhcpConfig;
  readonly #leases = new Map<Mac, IpAddress>();
  readonly #taken = new Set<IpAddress>();

  constructor(config: DhcpConfig) {
    this.#config = config;
    for (const [mac, address] of config.fixed ?? []) this.#take(mac, address);
  }

  #take(mac: Mac, address: IpAddress): void {
    this.#leases.set(mac, address);
    this.#taken.add(address);
  }

  /** @returns what to answer; undefined for nothing */
  answer(message: Uint8Array): DhcpReply | undefined {
    const request = parseDhcp(message);
    if (request === undefined) return undefined;
    switch (request.type) {
      case DhcpType.discover: {
        const address = this.#leaseOf(request.mac, request.requestedIp);
        return address === undefined ? undefined : this.#reply(request, DhcpType.offer, address);
      }
      case DhcpType.request:
        return this.#onRequest(request);
      case DhcpType.inform:
        return this.#reply(request, DhcpType.ack, undefined);
      case DhcpType.release:
      case DhcpType.decline:
        this.#release(request.mac);
        return undefined;
      default:
        return undefined;
    }
  }

  #onRequest(request: DhcpRequest): DhcpReply | undefined {
    const { gateway } = this.#config;
    if (request.serverId !== undefined && request.serverId !== addressAt(gateway, 0, 4)) return undefined;
    const wanted = request.requestedIp ?? request.clientIp;
    const address = this.#leaseOf(request.mac, wanted);
    return address === wanted && address !== undefined
      ? this.#reply(request, DhcpType.ack, address)
      : this.#reply(request, DhcpType.nak, undefined);
  }

  /** The station's address, a new one if it has none: the one it wants if that is free. */
  #leaseOf(mac: Mac, wanted: IpAddress | undefined): IpAddress | undefined {
    const known = this.#leases.get(mac);
    if (known !== undefined) return known;
    const { subnet, firstHost, lastHost } = this.#config;
    for (let host = firstHost; host <= lastHost; host++) {
      const address = addressAt(subnet.nth(host), 0, 4);
      if (this.#taken.has(address)) continue;
      const chosen = wanted !== undefined && this.#isFree(wanted) ? wanted : address;
      this.#take(mac, chosen);
      return chosen;
    }
    return undefined;
  }

  #isFree(address: IpAddress): boolean {
    const { subnet, firstHost, lastHost } = this.#config;
    if (this.#taken.has(address) || !subnet.holdsAddress(address)) return false;
    const bytes = parseAddress(address)!;
    const host = bytes.reduce((sum, byte, n) => sum * 256 + (byte & ~subnet.mask[n] & 0xff), 0);
    return host >= firstHost && host <= lastHost;
  }

  #release(mac: Mac): void {
    const address = this.#leases.get(mac);
    if (address === undefined || this.#config.fixed?.has(mac)) return;
    this.#leases.delete(mac);
    this.#taken.delete(address);
  }

  #reply(request: DhcpRequest, type: number, address: IpAddress | undefined): DhcpReply {
    const { gateway } = this.#config;
    const yourIp = address === undefined ? ANY : parseAddress(address)!;
    const options: [number, Uint8Array][] = [
      [DhcpOption.messageType, Uint8Array.of(type)],
      [DhcpOption.serverId, gateway],
      ...(type === DhcpType.nak ? [] : this.#settings(address !== undefined)),
    ];
    // An inform comes from a client that has its address; everybody else is told where they listen: everywhere.
    const informed = type === DhcpType.ack && address === undefined;
    return {
      bytes: buildDhcpReply(request, yourIp, gateway, options),
      to: informed ? parseAddress(request.clientIp)! : yourIp,
      broadcast: !informed && (request.wantsBroadcast || type === DhcpType.nak),
    };
  }

  #settings(withLease: boolean): [number, Uint8Array][] {
    const { subnet, gateway, dns, mtuBytes, domain } = this.#config;
    const number32 = (value: number): Uint8Array => {
      const bytes = new Uint8Array(4);
      put32(bytes, 0, value);
      return bytes;
    };
    const mtu = new Uint8Array(2);
    put16(mtu, 0, mtuBytes);
    return [
      ...(withLease ? [[DhcpOption.leaseTime, number32(LEASE_SECONDS)] as [number, Uint8Array]] : []),
      [DhcpOption.subnetMask, subnet.mask],
      [DhcpOption.router, gateway],
      [DhcpOption.dns, dns],
      [DhcpOption.broadcast, subnet.base.map((byte, n) => byte | (~subnet.mask[n] & 0xff))],
      [DhcpOption.mtu, mtu],
      ...(domain === undefined ? [] : [[DhcpOption.domainName, Buffer.from(domain)] as [number, Uint8Array]]),
    ];
  }
}
