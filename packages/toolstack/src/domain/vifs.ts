/** A domain's network interfaces: what is at the other end of their cables. */
import { type Frames, plug, unplug, VifDriver } from "@xenoserver/devices";
import {
  Filter,
  hasInterface,
  joinSwitch,
  LeaseGate,
  openTapNetwork,
  startPasst,
  UserNetwork,
} from "@xenoserver/network";
import { CLOSED_BLOCKS } from "@xenoserver/network/user/egress.ts";
import { formatMac } from "@xenoserver/network/wire/ethernet.ts";
import { ConfigError, isShared, type NetworkSpec, type VifSpec } from "../cfg/index.ts";
import { bridgePath } from "./bridge.ts";
import type { PreparedDevice } from "./devices.ts";

/**
 * Opens the network of an interface.
 * @param isRenewed  its guest goes on with another's addresses
 * @throws ConfigError  it cannot be had
 */
export async function prepareVif(
  vif: VifSpec,
  devid: number,
  vcpus: number,
  isRenewed = false,
): Promise<PreparedDevice> {
  const gate = isRenewed && isShared(vif) && vif.addresses.length === 0 ? new LeaseGate(vif.mac) : undefined;
  let log: (message: string) => void = () => {};
  let driver: VifDriver | undefined;
  const open = (): Promise<OpenNetwork> =>
    openNetwork(vif, (message) => log(`vif ${devid}: ${message}`)).catch((cause: unknown) => {
      throw new ConfigError(`vif ${devid}: ${cause instanceof Error ? cause.message : String(cause)}`);
    });
  let network: OpenNetwork | undefined = await open();
  const join = (): void => {
    if (driver !== undefined && network?.end !== undefined) connect(driver.port, network.end, vif, gate);
  };
  const close = async (): Promise<void> => {
    const closing = network;
    network = undefined;
    if (closing?.end !== undefined) unplug(closing.end);
    await closing?.close();
  };
  return {
    deviceClass: "vif",
    devid,
    driver: (host) => {
      log = host.log;
      driver = new VifDriver(host, {
        devid,
        mac: formatMac(vif.mac),
        maxQueues: vcpus,
        ...(vif.rate !== undefined && { rate: vif.rate }),
        ...(vif.mtuBytes !== undefined && { mtuBytes: vif.mtuBytes }),
        log,
      });
      join();
      return driver;
    },
    counters: () => {
      const {
        txPackets = 0,
        txBytes = 0,
        txErrors = 0,
        rxPackets = 0,
        rxBytes = 0,
        rxDropped = 0,
      } = driver?.counts ?? {};
      const mac = formatMac(vif.mac);
      return { kind: "vif", devid, mac, txPackets, txBytes, txErrors, rxPackets, rxBytes, rxDropped };
    },
    release: close,
    retake: async () => {
      network ??= await open();
      join();
      // The guest goes on as it was, so nobody else tells the network that it listens.
      network.end?.onRoom();
    },
    close,
  };
}

function connect(device: Frames, end: Frames, vif: VifSpec, gate: LeaseGate | undefined): void {
  const { mac, addresses, antispoof, accept, network } = vif;
  if (!antispoof) return plug(device, end);
  // Alone on its network, a copy may go on under the address that it had until it knows better.
  const own = isShared(vif) ? { mac } : {};
  const rules = { ...own, addresses, ...(accept && { accept }), ...(gate && { gate }), ...rulesOf(network) };
  new Filter(rules).join(device, end);
}

/** The user-mode network looks at addresses itself; passt knows no rules. */
function rulesOf(network: NetworkSpec): Pick<ConstructorParameters<typeof Filter>[0], "allow" | "deny"> {
  if (network.kind === "none" || network.kind === "user") return { allow: [], deny: [] };
  const { allow, deny } = network;
  return network.kind === "passt" ? { allow, deny: [...deny, ...CLOSED_TO_PASST] } : { allow, deny };
}

/** Without what its network itself needs: groups and links of IPv6. */
const CLOSED_TO_PASST = CLOSED_BLOCKS.filter(
  (block) => block.version === 4 && !block.holdsAddress("224.0.0.1") && !block.holdsAddress("255.255.255.255"),
);

interface OpenNetwork {
  /** Undefined for a cable without another end. */
  readonly end: Frames | undefined;
  close(): Promise<void> | void;
}

async function openNetwork(vif: VifSpec, log: (message: string) => void): Promise<OpenNetwork> {
  const { network: spec, mtuBytes } = vif;
  switch (spec.kind) {
    case "none":
      return { end: undefined, close: () => {} };
    case "bridge":
      return openBridge(vif, spec, log);
    case "tap":
      return openTap(vif, spec, log);
    case "passt":
      if (spec.subnet !== undefined) throw new Error("passt gives the guest the host's addresses, expected no subnet=");
      return startPasst({ forwards: spec.forwards, host: spec.host, log, ...(mtuBytes !== undefined && { mtuBytes }) });
    case "user":
      return openUserNetwork(vif, spec, log);
  }
}

/** A switch of ours, or else a bridge of the host. */
async function openBridge(
  vif: VifSpec,
  spec: Extract<NetworkSpec, { kind: "bridge" }>,
  log: (message: string) => void,
): Promise<OpenNetwork> {
  const { name } = spec;
  const onClose = (reason: string | undefined): void => log(`bridge ${name} is gone: ${reason ?? "closed"}`);
  try {
    const end = await joinSwitch(bridgePath(name), onClose);
    return { end, close: () => end.close() };
  } catch (cause) {
    if (hasInterface(name)) return openTap(vif, { ...spec, kind: "tap", bridge: name }, log);
    throw new Error(`bridge ${name} is not there, expected one of this host, or one started by: xeno bridge ${name}`, {
      cause,
    });
  }
}

function openTap(
  { mac, mtuBytes }: VifSpec,
  { bridge, vifname }: Extract<NetworkSpec, { kind: "tap" }>,
  log: (message: string) => void,
): OpenNetwork {
  const end = openTapNetwork({
    mac,
    ...(vifname !== undefined && { name: vifname }),
    ...(bridge !== undefined && { bridge }),
    ...(mtuBytes !== undefined && { mtuBytes }),
    log,
  });
  return { end, close: () => end.close() };
}

async function openUserNetwork(
  { mac, addresses, mtuBytes }: VifSpec,
  spec: Extract<NetworkSpec, { kind: "user" | "passt" }>,
  log: (message: string) => void,
): Promise<OpenNetwork> {
  const ipv4 = addresses.find((address) => !address.includes(":"));
  const network = await UserNetwork.open({
    ...(spec.subnet !== undefined && { subnet: spec.subnet }),
    ...(mtuBytes !== undefined && { mtuBytes }),
    ...(ipv4 !== undefined && { fixed: new Map([[mac, ipv4]]) }),
    egress: { host: spec.host, allow: spec.allow, deny: spec.deny },
    forwards: spec.forwards.map((forward) => (ipv4 === undefined ? forward : { ...forward, guest: ipv4 })),
    log,
  });
  return { end: network, close: () => network.close() };
}
