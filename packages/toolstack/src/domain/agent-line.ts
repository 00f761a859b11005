/** The line to a guest's agent: a console beside the first, which needs no network in the guest. */
import { ConsoleDriver, type SavedDevice } from "@xenoserver/devices";
import type { GuestAgent } from "../agent/index.ts";
import { AGENT_CHANNEL, AGENT_CONSOLE } from "../agent/program.ts";
import type { DomainDevices, PreparedDevice } from "./devices.ts";

/**
 * @param exited  settles when the domain has ended, and its agent with it
 * @param saved   the line's state, if the guest has it already
 */
export async function attachAgent(
  devices: DomainDevices,
  exited: Promise<unknown>,
  saved?: SavedDevice,
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
  void exited.then(() => agent.close("the domain ended"));
  return agent;
}
