/** A domain's configuration as JSON: the keys of xl.cfg, with strings, numbers and lists of strings as values. */
import { describeDisk } from "./disk.ts";
import { type DomainConfig, domainConfig } from "./domain-config.ts";
import { describeP9 } from "./p9.ts";
import { type CfgSetting, type CfgValue, ConfigError } from "./syntax.ts";
import { describeVif } from "./vif.ts";

export type SpecValue = string | number | readonly string[];
export type DomainSpec = Readonly<Record<string, SpecValue>>;

/** @throws ConfigError  a list within a list, which no key has */
export function specOf(settings: ReadonlyMap<string, CfgSetting>): DomainSpec {
  return Object.fromEntries([...settings.values()].map(({ key, value, origin }) => [key, plain(value, key, origin)]));
}

function plain(value: CfgValue, key: string, origin: string): SpecValue {
  if (value.kind === "atom") return value.text;
  return value.items.map((item) => {
    if (item.kind === "list") throw new ConfigError(`${origin}: ${key} has a list in its list, expected strings`);
    return item.text;
  });
}

/**
 * Checks a configuration.
 * @param origin  what messages call it
 * @throws ConfigError  with one line per mistake
 */
export function configOf(spec: DomainSpec, origin: string): { config: DomainConfig; warnings: string[] } {
  const settings = Object.entries(spec).map(([key, value]): [string, CfgSetting] => [
    key,
    { key, origin, value: cfgValue(value) },
  ]);
  return domainConfig(new Map(settings), origin);
}

function cfgValue(value: SpecValue): CfgValue {
  const atom = (item: string | number): CfgValue => ({
    kind: "atom",
    text: String(item),
    quoted: typeof item === "string",
  });
  return typeof value === "object" ? { kind: "list", items: value.map(atom) } : atom(value);
}

/** A configuration in the keys of xl.cfg, from which `configOf` makes the same again. */
export function specOfConfig(config: DomainConfig): DomainSpec {
  const {
    name,
    type,
    kernel,
    shim,
    ramdisk,
    cmdline,
    memoryMib,
    memoryAtStartMib = memoryMib,
    vcpus,
    vcpusAtStart = vcpus,
    cap,
    weight,
    cpus,
    uuid,
    disks,
    vifs,
    p9s,
  } = config;
  return {
    ...{ name, uuid, type, kernel },
    ...(shim !== undefined && { pvshim_path: shim.path, pvshim_cmdline: shim.cmdline }),
    ...(ramdisk !== undefined && { ramdisk }),
    ...{ cmdline, memory: memoryAtStartMib, vcpus: vcpusAtStart },
    ...(memoryAtStartMib < memoryMib && { maxmem: memoryMib }),
    ...(vcpusAtStart < vcpus && { maxvcpus: vcpus }),
    ...(cap !== undefined && { cap }),
    ...(weight !== undefined && { cpu_weight: weight }),
    ...(cpus !== undefined && { cpus }),
    ...(disks !== undefined && { disk: disks.map(describeDisk) }),
    ...(vifs !== undefined && { vif: vifs.map(describeVif) }),
    ...(p9s !== undefined && { p9: p9s.map(describeP9) }),
    ...{ on_poweroff: config.onPoweroff, on_reboot: config.onReboot, on_crash: config.onCrash },
  };
}
