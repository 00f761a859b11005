import { ALL_CPUS, type DomainConfig, parseCpuList } from "../cfg/index.ts";
import { ControlError } from "./protocol.ts";
import { read } from "./read.ts";

/** By vcpu: as it was written. */
export const cpusOf = ({ cpus, vcpus }: DomainConfig): readonly string[] => cpus ?? Array<string>(vcpus).fill(ALL_CPUS);

/**
 * What a configuration has once one vcpu, or all, are on other processors.
 * @param name  what messages call the domain
 * @returns     by vcpu
 * @throws ControlError  there is no such vcpu, or the list is none
 */
export function repinned(config: DomainConfig, name: string, vcpu: number | "all", written: string): string[] {
  if (vcpu !== "all" && (vcpu < 0 || vcpu >= config.vcpus))
    throw new ControlError("invalid", `vcpu of ${name} is ${vcpu}, expected 0 to ${config.vcpus - 1}, or all`);
  const list = read("cpus", () => parseCpuList(written));
  return cpusOf(config).map((was, id) => (vcpu === "all" || vcpu === id ? list : was));
}
