/** `xeno image build`: an image of Debian packages. */
import { ExitError, ExitStatus } from "./exit-status.ts";
import { readPublicKey } from "./public-key.ts";
import { endMeter, interruptible, meter, mib, openStore, progress, say } from "./store-access.ts";

export interface BuildOptions {
  readonly package?: readonly string[];
  readonly size: number;
  readonly flavour: "cloud" | "generic";
  readonly hostname: string;
  readonly sshKey?: readonly string[];
  readonly mirror?: string;
  readonly keyring?: string;
}

/** @returns the exit status */
export function buildCommand(source: string, name: string, options: BuildOptions): Promise<number> {
  const release = /^debian:(.+)$/.exec(source)?.[1];
  if (release === undefined)
    throw new ExitError(ExitStatus.badConfig, `source is ${JSON.stringify(source)}, expected such as debian:12`);
  if (!/^[A-Za-z0-9]([A-Za-z0-9-]{0,62})$/.test(options.hostname))
    throw new ExitError(
      ExitStatus.badConfig,
      `hostname is ${JSON.stringify(options.hostname)}, expected letters, digits and dashes`,
    );
  const sshKeys = (options.sshKey ?? []).map(readPublicKey);
  return interruptible(async (signal) => {
    const { buildDebian } = await import("@xenoserver/toolstack/images/index.ts");
    const store = await openStore();
    const digest = await buildDebian(store, {
      release,
      name,
      sshKeys,
      signal,
      packages: options.package ?? [],
      sizeBytes: options.size,
      flavour: options.flavour,
      hostname: options.hostname,
      ...(options.mirror !== undefined && { mirror: options.mirror }),
      ...(options.keyring !== undefined && { keyring: options.keyring }),
      progress,
      meter: meter(`keeping ${name}`),
    });
    endMeter();
    const { usedBytes } = await store.describe(name);
    say(`${name} ${digest.slice(0, 16)} ${mib(options.size)}, ${mib(usedBytes)} in use`);
  });
}
