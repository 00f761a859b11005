/** The line to a guest's agent: a console beside the first, which needs no network in the guest. */
import { ConsoleDriver } from "@xenoserver/devices";
import type { GuestAgent } from "../agent/index.ts";
import { AGENT_CHANNEL, AGENT_CONSOLE } from "../agent/program.ts";
import type { DomainDevices } from "./devices.ts";

/** @param exited  settles when the domain has ended, and its agent with it */
export async function attachAgent(devices: DomainDevices, exited: Promise<unknown>): Promise<GuestAgent> {
  const { GuestAgent } = await import("../agent/index.ts");
  let driver: ConsoleDriver | undefined;
  const agent = new GuestAgent({ send: (bytes) => driver?.send(bytes) });
  devices.attach({
    deviceClass: "console",
    devid: AGENT_CONSOLE,
    driver: (host) => {
      driver = new ConsoleDriver(host, { name: AGENT_CHANNEL, onOutput: (bytes) => agent.receive(bytes) });
      return driver;
    },
    close: async () => agent.close("the domain ended"),
  });
  void exited.then(() => agent.close("the domain ended"));
  return agent;
}
