/** The line to a guest's agent: a console beside the first, which needs no network in the guest. */
import { ConsoleDriver, type SavedDevice } from "@xenoserver/devices";
import type { GuestAgent } from "../agent/index.ts";
import { AGENT_CHANNEL, AGENT_CONSOLE } from "../agent/program.ts";
import { HEADER_BYTES } from "../agent/protocol.ts";
import type { DomainDevices, PreparedDevice } from "./devices.ts";

const NO_FRAME = new Uint8Array(HEADER_BYTES);

/**
 * @param exited  settles when the domain has ended, and its agent with it
 * @param saved   the line's state, if the guest has it already
 * @param isCopy  others may go on from the same moment
 */
export async function attachAgent(
  devices: DomainDevices,
  exited: Promise<unknown>,
  saved?: SavedDevice,
  isCopy = false,
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
  if (isCopy) agent.reseed();
  // The guest's agent goes on with a host that is gone. What is no frame makes it begin anew.
  if (saved !== undefined) driver?.send(NO_FRAME);
  void exited.then(() => agent.close("the domain ended"));
  return agent;
}
