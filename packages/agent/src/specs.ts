/** Configurations that the agent is given, and what it refuses of them. */
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

/** Copies have the addresses of the domain that they were made of. @throws AgentError  they would meet on a bridge */
export function refuseSharedNetworks(spec: DomainSpec): void {
  const { config } = checked(() => configOf(spec, "domain"));
  (config.vifs ?? []).forEach(({ network: { kind } }, n) => {
    if (kind !== "bridge" && kind !== "tap") return;
    throw new AgentError(
      409,
      `vif ${n} of ${config.name}: is on a ${kind}, where its copies would have the same address`,
    );
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
