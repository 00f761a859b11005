/** What a copy of a domain has of its own from the beginning: name, uuid, and addresses of its network interfaces. */
import { randomUUID } from "node:crypto";
import { type Mac, parseMac } from "@xenoserver/network/wire/ethernet.ts";
import type { DomainConfig } from "./domain-config.ts";
import { configOf, type DomainSpec } from "./spec.ts";
import { describeVif, freshMac } from "./vif.ts";

/**
 * @param taken  addresses that it must not have; those that it gets are added
 * @returns a copy's configuration
 */
export function copyOf(config: DomainConfig, name: string, taken: Set<Mac> = new Set()): DomainConfig {
  const { vifs } = config;
  for (const { mac } of vifs ?? []) taken.add(mac);
  const renew = (): Mac => {
    let mac: Mac;
    do mac = freshMac();
    while (taken.has(mac));
    taken.add(mac);
    return mac;
  };
  return { ...config, name, uuid: randomUUID(), ...(vifs && { vifs: vifs.map((vif) => ({ ...vif, mac: renew() })) }) };
}

/** The same in the keys of xl.cfg. @throws ConfigError */
export function copyOfSpec(spec: DomainSpec, name: string, taken?: Set<Mac>): DomainSpec {
  const { uuid, vifs } = copyOf(configOf(spec, "domain").config, name, taken);
  return { ...spec, name, uuid, ...(vifs && { vif: vifs.map(describeVif) }) };
}

/** The addresses that a configuration itself gives to interfaces. */
export function macsIn({ vif = [] }: DomainSpec): Mac[] {
  const texts = typeof vif === "object" ? vif : [];
  return texts.flatMap((text) => parseMac(/(?:^|,)\s*mac=\s*([^,]*)/.exec(text)?.[1]?.trim() ?? "") ?? []);
}

/** An interface that is another's copy: its guest may not know yet which address it has now. */
export interface RenewedVif {
  readonly devid: number;
  readonly mac: Mac;
}

/** Interfaces that have another address than they had when the domain stood still. */
export function renewedVifs(before: DomainConfig, { vifs = [] }: DomainConfig): RenewedVif[] {
  return vifs.flatMap(({ mac }, devid) => (before.vifs?.[devid]?.mac === mac ? [] : [{ devid, mac }]));
}
