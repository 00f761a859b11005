/** `xeno run`: a domain from an xl.cfg file and settings on the command line. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import {
  applyOverrides,
  type CfgSetting,
  ConfigError,
  type DomainConfig,
  domainConfig,
  parseCfg,
} from "@xenoserver/toolstack/cfg/index.ts";
import { describePlan, planDomain } from "@xenoserver/toolstack/domain/index.ts";
import { ExitStatus } from "./exit-status.ts";
import { type ForegroundOptions, runForeground } from "./foreground.ts";
import { addImageDisk, addSeed, type ImageRunOptions } from "./image-run.ts";

export interface RunOptions extends ImageRunOptions {
  /** A line for the guest's shell, whose status becomes this command's. */
  readonly exec?: string;
  /** Deletes what the domain wrote on images, behind it. */
  readonly rm?: boolean;
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
  if (options.rm && !settings.has("name")) applyOverrides(settings, [`name="run-${randomUUID().slice(0, 8)}"`]);
  const domain = textOf(settings, "name") ?? "domain";
  addImageDisk(settings, options, domain);
  const removeSeed = await addSeed(settings, options, domain);
  try {
    return await runSettings(settings, name, options);
  } finally {
    removeSeed();
  }
}

async function runSettings(settings: Map<string, CfgSetting>, name: string, options: RunOptions): Promise<number> {
  if (!settings.has("kernel") && settings.has("disk")) {
    const { bootFromImage, IDLE_WORD } = await import("@xenoserver/toolstack/images/index.ts");
    const extras = await bootFromImage(settings);
    if (options.exec !== undefined && extras !== undefined && extras.about?.["agent"] === undefined)
      throw new ConfigError(
        "command line: --exec needs an agent, which the image has not; expected one made by xeno image",
      );
    // A container's image is to wait for commands in place of starting its program.
    if (options.exec !== undefined && extras?.about?.["container"] !== undefined)
      applyOverrides(settings, [`${settings.has("cmdline") ? "cmdline" : "extra"}+=" ${IDLE_WORD}"`]);
  }
  const { config, warnings } = domainConfig(settings, name);
  for (const warning of warnings) process.stderr.write(`xeno: ${name}: ${warning}\n`);
  if (options.rm && config.disks?.some(({ format }) => format === "image") !== true)
    throw new ConfigError("command line: --rm, but no disk is on an image");
  if (options.dryrun) {
    process.stdout.write(`${describePlan(planDomain(config))}\n`);
    return ExitStatus.ok;
  }
  const run = () => runForeground(config, foregroundOptions(options));
  return options.rm ? withoutTraces(config, run) : run();
}

function foregroundOptions(options: RunOptions): ForegroundOptions {
  return {
    console: options.exec !== undefined && options.console === "stdio" ? "none" : options.console,
    ...(options.timeout !== undefined && { timeoutSeconds: options.timeout }),
    ...(options.json && { json: true }),
    ...(options.verbose && { verbose: true }),
    ...(options.exec !== undefined && {
      session: async (domain) => {
        const { execSession } = await import("./exec-session.ts");
        return execSession(domain, { command: options.exec!, readyMs: READY_MS, powerOff: options.rm !== true });
      },
    }),
  };
}

/** Deletes the domain's disks on images when it has ended. They must not be there before. */
async function withoutTraces(config: DomainConfig, run: () => Promise<number>): Promise<number> {
  const { openDefaultStore } = await import("@xenoserver/storage/index.ts");
  const store = await openDefaultStore();
  const ids = (config.disks ?? []).flatMap((disk) =>
    disk.format === "image" && !disk.readOnly ? [`${config.name}-${disk.vdev}`] : [],
  );
  for (const id of ids)
    if (await store.hasOverlay(id))
      throw new ConfigError(`command line: --rm, but disk ${id} is there already; expected a name= of its own`);
  try {
    return await run();
  } finally {
    for (const id of ids) await store.removeOverlay(id);
  }
}

/** A translated guest may take its time to start. */
const READY_MS = 600_000;

export function textOf(settings: ReadonlyMap<string, CfgSetting>, key: string): string | undefined {
  const value = settings.get(key)?.value;
  return value?.kind === "atom" ? value.text : undefined;
}

/** @throws ConfigError  it cannot be read */
export function readCfg(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new ConfigError(`${path}: ${code === "ENOENT" ? "no such file" : message}`);
  }
}
