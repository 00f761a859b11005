/** Configurations that the agent is given, and what it refuses of them. */
import { isShared } from "@xenoserver/toolstack/cfg/index.ts";
import { configOf, type DomainSpec } from "@xenoserver/toolstack/control/index.ts";
import { SaveError } from "@xenoserver/toolstack/save/index.ts";
import { openSaved } from "@xenoserver/toolstack/snapshot/index.ts";
import { AgentError } from "./home.ts";
import type { DomainSize } from "./zygotes.ts";

/** @throws AgentError  the file is no saved domain */
export async function specOfSaved(path: string): Promise<DomainSpec> {
  try {
    const file = await openSaved(path);
    file.close();
    file.closeFrames();
    return file.header.spec;
  } catch (error) {
    throw error instanceof SaveError ? new AgentError(400, error.message) : error;
  }
}

/** @throws AgentError  as `checked` */
export function sizeOf(spec: DomainSpec): DomainSize {
  const { vcpus, memoryMib } = checked(() => configOf(spec, "domain").config);
  return { vcpus, memoryMib };
}

/**
 * Copies of a domain that is there get addresses of their own, where nothing speaks against that.
 * @throws AgentError  they would have the domain's on a network that both are on
 */
export function refuseShared(spec: DomainSpec): void {
  const { config } = checked(() => configOf(spec, "domain"));
  (config.vifs ?? []).forEach((vif, n) => {
    const { addresses, antispoof, network } = vif;
    if (!isShared(vif)) return;
    const what =
      addresses.length > 0
        ? "ip=, which its copies would have too"
        : !antispoof
          ? "antispoof=0, with which its copies would send under its addresses"
          : "vifname" in network
            ? "vifname=, which only one can have"
            : undefined;
    if (what !== undefined)
      throw new AgentError(409, `vif ${n} of ${config.name}: is on a ${network.kind} with ${what}`);
  });
}

/** @throws AgentError  with one line for each mistake of a configuration */
export function checked<T>(use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw (error as Error).name === "ConfigError" ? new AgentError(400, (error as Error).message) : error;
  }
}
