/** `xeno run`: a domain from an xl.cfg file and settings on the command line. */
import { readFileSync } from "node:fs";
import {
  applyOverrides,
  type CfgSetting,
  ConfigError,
  domainConfig,
  parseCfg,
} from "@xenoserver/toolstack/cfg/index.ts";
import { describePlan, planDomain } from "@xenoserver/toolstack/domain/index.ts";
import { ExitStatus } from "./exit-status.ts";
import { runForeground } from "./foreground.ts";

export interface RunOptions {
  /** Name of an image to boot from. */
  readonly image?: string;
  readonly dryrun?: boolean;
  readonly console: string;
  readonly timeout?: number;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

/**
 * @param args  a file name (without "=") and settings (with), in any order
 * @returns     the exit status
 * @throws      ConfigError
 */
export async function runCommand(args: readonly string[], options: RunOptions): Promise<number> {
  const files = args.filter((arg) => !arg.includes("="));
  const overrides = args.filter((arg) => arg.includes("="));
  if (files.length > 1) throw new ConfigError(`command line: files are ${files.join(", ")}, expected one`);
  if (args.length === 0 && options.image === undefined)
    throw new ConfigError("command line: nothing to run, expected FILE.cfg, kernel=PATH or --image NAME");

  const name = files[0] ?? "command line";
  const settings = files[0] === undefined ? new Map<string, CfgSetting>() : parseCfg(readCfg(files[0]), files[0]);
  applyOverrides(settings, overrides);
  if (options.image !== undefined) addImageDisk(settings, options.image);
  if (!settings.has("kernel") && settings.has("disk")) {
    const { bootFromImage } = await import("@xenoserver/toolstack/images/index.ts");
    await bootFromImage(settings);
  }
  const { config, warnings } = domainConfig(settings, name);
  for (const warning of warnings) process.stderr.write(`xeno: ${name}: ${warning}\n`);
  if (options.dryrun) {
    process.stdout.write(`${describePlan(planDomain(config))}\n`);
    return ExitStatus.ok;
  }
  return runForeground(config, {
    console: options.console,
    ...(options.timeout !== undefined && { timeoutSeconds: options.timeout }),
    ...(options.json && { json: true }),
    ...(options.verbose && { verbose: true }),
  });
}

/** The image as the first disk, and a network of the domain's own, unless the settings say otherwise. */
function addImageDisk(settings: Map<string, CfgSetting>, image: string): void {
  if (!/^[\w.+:@-]+$/.test(image))
    throw new ConfigError(
      `command line: image is ${JSON.stringify(image)}, expected a name as \`xeno image ls\` shows it`,
    );
  if (settings.has("disk")) throw new ConfigError("command line: --image stands beside disk=, expected one of them");
  applyOverrides(settings, [`disk=["${image},image,xvda"]`]);
  if (!settings.has("vif")) applyOverrides(settings, ['vif=[""]']);
}

function readCfg(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new ConfigError(`${path}: ${code === "ENOENT" ? "no such file" : message}`);
  }
}
