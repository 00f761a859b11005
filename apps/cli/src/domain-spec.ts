/** From what was written on the command line to what the agent is sent: files read, paths made absolute. */
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { agentHome } from "@xenoserver/agent/index.ts";
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
import { addImageDisk, type ImageRunOptions, keepSeed } from "./image-run.ts";
import { readCfg, textOf } from "./run-command.ts";

/**
 * @param options  of a domain that boots from an image
 * @throws ConfigError  with one line per mistake
 */
export async function readSpec(args: readonly string[], options: ImageRunOptions = {}): Promise<DomainSpec> {
  const files = args.filter((arg) => !arg.includes("="));
  if (files.length > 1) throw new ConfigError(`command line: files are ${files.join(", ")}, expected one`);
  if (args.length === 0 && options.image === undefined)
    throw new ConfigError("command line: nothing to create, expected FILE.cfg, kernel=PATH or --image NAME");
  const name = files[0] ?? "command line";
  const settings = files[0] === undefined ? new Map<string, CfgSetting>() : parseCfg(readCfg(files[0]), files[0]);
  applyOverrides(
    settings,
    args.filter((arg) => arg.includes("=")),
  );
  await addImage(settings, options);
  if (!settings.has("kernel") && settings.has("disk")) {
    const { bootFromImage } = await import("@xenoserver/toolstack/images/index.ts");
    await bootFromImage(settings);
  }
  // Mistakes are told with their lines here; the agent knows these no more.
  for (const warning of domainConfig(settings, name).warnings) process.stderr.write(`xeno: ${name}: ${warning}\n`);
  return absolute(specOf(settings));
}

async function addImage(settings: Map<string, CfgSetting>, options: ImageRunOptions): Promise<void> {
  if (options.image !== undefined && process.env["XENO_AGENT"])
    throw new ConfigError("command line: --image stands beside $XENO_AGENT, expected an agent of this machine");
  // The name of its disk, and where several domains are made of one image, what tells them apart.
  if (options.image !== undefined && !settings.has("name"))
    applyOverrides(settings, [`name="${options.image.replaceAll(/[^\w.+-]/g, "-")}-${randomUUID().slice(0, 8)}"`]);
  const domain = textOf(settings, "name") ?? "domain";
  addImageDisk(settings, options, domain);
  await keepSeed(settings, options, domain, join(agentHome().folder, "seeds"));
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
