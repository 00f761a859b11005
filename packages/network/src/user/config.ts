/** What a user-mode network is told, and what it fills in. */
import { AddressBlock, addressAt, type IpAddress } from "../wire/address.ts";
import type { Mac } from "../wire/ethernet.ts";
import type { EgressConfig } from "./egress.ts";
import type { Forward } from "./forward.ts";

export interface UserNetworkConfig {
  /** At least four addresses; the default is 10.0.2.0/24, with the gateway at .2, the resolver at .3, guests from .15 on. */
  readonly subnet?: AddressBlock;
  readonly mtuBytes?: number;
  /** Whether guests are offered IPv6; by default if this host has it. */
  readonly ipv6?: boolean;
  readonly egress?: Partial<EgressConfig>;
  readonly forwards?: readonly Forward[];
  /** Addresses of stations, which DHCP gives to no other. */
  readonly fixed?: ReadonlyMap<Mac, IpAddress>;
  /** Resolvers in place of the host's own. */
  readonly resolvers?: readonly string[];
  readonly log?: (message: string) => void;
}

export const DEFAULT_SUBNET = "10.0.2.0/24";
export const DEFAULT_MTU_BYTES = 1500;

/** Locally administered, and the same in every network: guests that move do not have to learn another. */
export const GATEWAY_MAC: Mac = 0x52_55_0a_00_02_02;

const GATEWAY_HOST = 2;
const DNS_HOST = 3;
const FIRST_GUEST = 15;
const MAX_GUESTS = 4096;

/** The addresses that a subnet's size gives room for. */
export interface SubnetPlan {
  readonly subnet: AddressBlock;
  readonly gateway: Uint8Array;
  readonly dns: Uint8Array;
  readonly firstHost: number;
  readonly lastHost: number;
}

/** @throws RangeError  the subnet is no IPv4 block with room for a gateway, a resolver and a guest */
export function planSubnet(subnet: AddressBlock = AddressBlock.parse(DEFAULT_SUBNET)!): SubnetPlan {
  if (subnet.version !== 4 || subnet.prefixBits > 29 || subnet.prefixBits < 8) {
    throw new RangeError(`subnet is ${subnet}, expected an IPv4 block from /8 to /29`);
  }
  const size = 2 ** (32 - subnet.prefixBits);
  const firstHost = size > 2 * FIRST_GUEST ? FIRST_GUEST : DNS_HOST + 1;
  return {
    subnet,
    gateway: subnet.nth(GATEWAY_HOST),
    dns: subnet.nth(DNS_HOST),
    firstHost,
    lastHost: Math.min(size - 2, firstHost + MAX_GUESTS),
  };
}

export const planText = ({ gateway, dns }: SubnetPlan): { gateway: IpAddress; dns: IpAddress } => ({
  gateway: addressAt(gateway, 0, 4),
  dns: addressAt(dns, 0, 4),
});
