/** From what was written on the command line to what the agent is sent: files read, paths made absolute. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import {
  applyOverrides,
  type CfgSetting,
  ConfigError,
  type DomainSpec,
  describeDisk,
  domainConfig,
  parseCfg,
  parseDisk,
  specOf,
} from "@xenoserver/toolstack/cfg/index.ts";
import { readCfg } from "./run-command.ts";

/** @throws ConfigError  with one line per mistake */
export async function readSpec(args: readonly string[]): Promise<DomainSpec> {
  const files = args.filter((arg) => !arg.includes("="));
  if (files.length > 1) throw new ConfigError(`command line: files are ${files.join(", ")}, expected one`);
  if (args.length === 0) throw new ConfigError("command line: nothing to create, expected FILE.cfg or kernel=PATH");
  const name = files[0] ?? "command line";
  const settings = files[0] === undefined ? new Map<string, CfgSetting>() : parseCfg(readCfg(files[0]), files[0]);
  applyOverrides(
    settings,
    args.filter((arg) => arg.includes("=")),
  );
  if (!settings.has("kernel") && settings.has("disk")) {
    const { bootFromImage } = await import("@xenoserver/toolstack/images/index.ts");
    await bootFromImage(settings);
  }
  // Mistakes are told with their lines here; the agent knows these no more.
  for (const warning of domainConfig(settings, name).warnings) process.stderr.write(`xeno: ${name}: ${warning}\n`);
  return absolute(specOf(settings));
}

/** The agent has a folder of its own. */
function absolute(spec: DomainSpec): DomainSpec {
  const next: Record<string, DomainSpec[string]> = { ...spec };
  for (const key of ["kernel", "ramdisk"]) if (next[key] !== undefined) next[key] = resolve(String(next[key]));
  const { disk } = spec;
  if (disk !== undefined) next["disk"] = (typeof disk === "object" ? disk : [String(disk)]).map(absoluteDisk);
  return next;
}

/** @throws Complaint  it is no disk */
export function absoluteDisk(text: string): string {
  const disk = parseDisk(text);
  const isHere = disk.format !== "image" && existsSync(disk.target);
  return isHere ? describeDisk({ ...disk, target: resolve(disk.target) }) : text;
}
