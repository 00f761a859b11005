/** A domain's configuration as JSON: the keys of xl.cfg, with strings, numbers and lists of strings as values. */
import { type CfgSetting, type CfgValue, ConfigError, type DomainConfig, domainConfig } from "../cfg/index.ts";

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
