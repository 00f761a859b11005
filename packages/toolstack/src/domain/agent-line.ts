/** The line to a guest's agent: a console beside the first, which needs no network in the guest. */
import { ConsoleDriver, type SavedDevice } from "@xenoserver/devices";
import type { GuestAgent } from "../agent/index.ts";
import type { AddressChange } from "../agent/new-address.ts";
import { AGENT_CHANNEL, AGENT_CONSOLE } from "../agent/program.ts";
import { HEADER_BYTES } from "../agent/protocol.ts";
import { type DomainConfig, isShared, renewedVifs } from "../cfg/index.ts";
import type { SavedFile } from "../save/index.ts";
import type { DomainDevices, PreparedDevice } from "./devices.ts";

const NO_FRAME = new Uint8Array(HEADER_BYTES);

/** A guest that is still starting has its agent by then. */
const COPY_READY_MS = 600_000;

/** Others may go on from the same moment. */
export interface CopiedGuest {
  readonly name: string;
  /** Its interfaces whose addresses are others than they were. */
  readonly addresses: readonly AddressChange[];
  /** Told if it cannot become another machine. */
  readonly log: (message: string) => void;
}

/**
 * @param config  of a domain that goes on from a file
 * @returns       undefined if no other does
 */
export function copiedGuest(
  config: DomainConfig,
  from: SavedFile,
  log: (message: string) => void,
): CopiedGuest | undefined {
  if (!from.isCopy && from.config.uuid === config.uuid) return undefined;
  const addresses = renewedVifs(from.config, config).map((renewed) => ({
    ...renewed,
    isShared: isShared(config.vifs![renewed.devid]!),
  }));
  return { name: config.name, addresses, log };
}

/**
 * @param exited  settles when the domain has ended, and its agent with it
 * @param saved   the line's state, if the guest has it already
 * @param copy    has it become another machine
 */
export async function attachAgent(
  devices: DomainDevices,
  exited: Promise<unknown>,
  saved?: SavedDevice,
  copy?: CopiedGuest,
): Promise<GuestAgent> {
  const { GuestAgent } = await import("../agent/index.ts");
  let driver: ConsoleDriver | undefined;
  const agent = new GuestAgent({ send: (bytes) => driver?.send(bytes) });
  const line: PreparedDevice = {
    deviceClass: "console",
    devid: AGENT_CONSOLE,
    driver: (host) => {
      driver = new ConsoleDriver(host, { name: AGENT_CHANNEL, onOutput: (bytes) => agent.receive(bytes) });
      return driver;
    },
    close: async () => agent.close("the domain ended"),
  };
  devices.attach(line, saved);
  if (copy !== undefined) agent.reseed();
  // The guest's agent goes on with a host that is gone. What is no frame makes it begin anew.
  if (saved !== undefined) driver?.send(NO_FRAME);
  void exited.then(() => agent.close("the domain ended"));
  if (copy !== undefined) {
    // A guest without an agent goes on as it was.
    agent
      .tellCopy(copy, COPY_READY_MS)
      .then((failures) => failures.forEach(copy.log))
      .catch(() => {});
  }
  return agent;
}
