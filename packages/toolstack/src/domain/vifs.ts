/** A domain's network interfaces: what is at the other end of their cables. */
import { type Frames, plug, unplug, VifDriver } from "@xenoserver/devices";
import { UserNetwork } from "@xenoserver/network";
import { formatMac } from "@xenoserver/network/wire/ethernet.ts";
import { ConfigError } from "../cfg/index.ts";
import type { VifSpec } from "../cfg/vif.ts";
import type { PreparedDevice } from "./devices.ts";

/**
 * Opens the network of an interface.
 * @throws ConfigError  it cannot be had
 */
export async function prepareVif(vif: VifSpec, devid: number, vcpus: number): Promise<PreparedDevice> {
  let network: OpenNetwork;
  try {
    network = await openNetwork(vif);
  } catch (cause) {
    throw new ConfigError(`vif ${devid}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  return {
    deviceClass: "vif",
    devid,
    driver: (host) => {
      const driver = new VifDriver(host, {
        devid,
        mac: formatMac(vif.mac),
        maxQueues: vcpus,
        ...(vif.rate !== undefined && { rate: vif.rate }),
        ...(vif.mtuBytes !== undefined && { mtuBytes: vif.mtuBytes }),
        log: host.log,
      });
      if (network.end !== undefined) plug(driver.port, network.end);
      return driver;
    },
    close: async () => {
      if (network.end !== undefined) unplug(network.end);
      await network.close();
    },
  };
}

interface OpenNetwork {
  /** Undefined for a cable without another end. */
  readonly end: Frames | undefined;
  close(): Promise<void> | void;
}

async function openNetwork({ network: spec, mac, addresses, mtuBytes }: VifSpec): Promise<OpenNetwork> {
  switch (spec.kind) {
    case "none":
      return { end: undefined, close: () => {} };
    case "user": {
      const ipv4 = addresses.find((address) => !address.includes(":"));
      const network = await UserNetwork.open({
        ...(spec.subnet !== undefined && { subnet: spec.subnet }),
        ...(mtuBytes !== undefined && { mtuBytes }),
        ...(ipv4 !== undefined && { fixed: new Map([[mac, ipv4]]) }),
        egress: { host: spec.host, allow: spec.allow, deny: spec.deny },
        forwards: spec.forwards.map((forward) => (ipv4 === undefined ? forward : { ...forward, guest: ipv4 })),
      });
      return { end: network, close: () => network.close() };
    }
    default:
      throw new Error(`net=${spec.kind} is not supported yet`);
  }
}
