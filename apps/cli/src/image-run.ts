/** What `xeno run --image` and `xeno create --image` add to a configuration: a disk on the image, a network, and what the machine is told at its first start. */
import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { applyOverrides, type CfgSetting, ConfigError } from "@xenoserver/toolstack/cfg/index.ts";
import { readPublicKey } from "./public-key.ts";

export interface ImageRunOptions {
  /** Name of an image to boot from. */
  readonly image?: string;
  readonly userData?: string;
  readonly sshKey?: readonly string[];
  readonly hostname?: string;
  readonly address?: string;
  /** Of a network of its own, as the settings of a vif have them: ports that lead to it, and whether it reaches this host. */
  readonly forward?: readonly string[];
  readonly host?: boolean;
}

type Settings = Map<string, CfgSetting>;

/** Of the disk that cloud-init reads. */
const SEED_VDEV = "xvdz";

/**
 * The image as the first disk, and a network of the domain's own, unless the settings say otherwise.
 * @throws ConfigError
 */
export function addImageDisk(settings: Settings, options: ImageRunOptions, domain: string): void {
  const { image, address, forward = [], host } = options;
  if (image === undefined) return;
  if (!/^[\w.+:@-]+$/.test(image))
    throw new ConfigError(
      `command line: image is ${JSON.stringify(image)}, expected a name as \`xeno image ls\` shows it`,
    );
  if (settings.has("disk")) throw new ConfigError("command line: --image stands beside disk=, expected one of them");
  applyOverrides(settings, [`disk=["${image},image,xvda"]`]);
  if (settings.has("vif")) {
    if (address !== undefined)
      throw new ConfigError("command line: --address stands beside vif=, expected one of them");
    return;
  }
  const own = address === undefined ? "" : `,ip=${ipv4Of(address).ip},subnet=${ipv4Of(address).subnet}`;
  const ways = [...forward.map((ports) => `,forward=${ports}`), ...(host === true ? [",host=1"] : [])].join("");
  applyOverrides(settings, [`vif=["mac=${macOf(domain)}${own}${ways}"]`]);
}

/** The same for the same name, so that a machine finds its interface again. */
function macOf(domain: string): string {
  const tail = createHash("sha256").update(`mac of ${domain}`).digest("hex").slice(0, 6);
  return `00:16:3e:${tail.match(/../g)!.join(":")}`;
}

/** An address with the network that our gateway and resolver have places in. */
function ipv4Of(text: string): { ip: string; subnet: string; gateway: string; resolver: string } {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(text);
  const parts = match?.slice(1, 5).map(Number) ?? [];
  const prefix = Number(match?.[5]);
  if (match === null || parts.some((part) => part > 255) || !(prefix >= 8 && prefix <= 29))
    throw new ConfigError(`command line: address is ${JSON.stringify(text)}, expected such as 10.0.2.20/24`);
  const value = parts.reduce((sum, part) => sum * 256 + part, 0);
  const network = value - (value % 2 ** (32 - prefix));
  const written = (number: number): string => [24, 16, 8, 0].map((shift) => (number / 2 ** shift) & 255).join(".");
  return {
    ip: written(value),
    subnet: `${written(network)}/${prefix}`,
    gateway: written(network + 2),
    resolver: written(network + 3),
  };
}

/**
 * The disk that cloud-init reads.
 * @returns its bytes; undefined if nothing is to be told
 * @throws  ConfigError, ExitError
 */
async function seedOf(options: ImageRunOptions, domain: string): Promise<Uint8Array | undefined> {
  const { userData, sshKey = [], hostname, address, image } = options;
  const tells = userData !== undefined || sshKey.length > 0 || hostname !== undefined || address !== undefined;
  if (!tells) return undefined;
  if (image === undefined)
    throw new ConfigError("command line: --user-data, --ssh-key, --hostname and --address go with --image");
  const { seedDisk } = await import("@xenoserver/toolstack/images/index.ts");
  const network = address === undefined ? undefined : ipv4Of(address);
  const seed = seedDisk({
    hostname: hostname ?? domain,
    sshKeys: sshKey.map(readPublicKey),
    ...(userData !== undefined && { userData: readUserData(userData) }),
    ...(network !== undefined && {
      address: { mac: macOf(domain), address: address!, gateway: network.gateway, nameservers: [network.resolver] },
    }),
  });
  return seed.bytes;
}

/** It may tell secrets: nobody else may read it. */
function attachSeed(settings: Settings, path: string, bytes: Uint8Array): void {
  writeFileSync(path, bytes, { mode: 0o600 });
  applyOverrides(settings, [`disk+=["format=raw,vdev=${SEED_VDEV},access=ro,target=${path}"]`]);
}

/**
 * Adds the disk that cloud-init reads, if anything is to be told, for a domain that ends with this process.
 * @returns what removes its file again
 * @throws  ConfigError, ExitError
 */
export async function addSeed(settings: Settings, options: ImageRunOptions, domain: string): Promise<() => void> {
  const bytes = await seedOf(options, domain);
  if (bytes === undefined) return () => {};
  const folder = mkdtempSync(join(tmpdir(), "xeno-seed-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  process.once("exit", remove);
  attachSeed(settings, join(folder, "seed.iso"), bytes);
  return () => {
    process.off("exit", remove);
    remove();
  };
}

/**
 * The same for a domain that goes on behind this process: the file stays, for the guest may start anew.
 * @param folder  of such files; made if it is not there
 */
export async function keepSeed(
  settings: Settings,
  options: ImageRunOptions,
  domain: string,
  folder: string,
): Promise<void> {
  const bytes = await seedOf(options, domain);
  if (bytes === undefined) return;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  attachSeed(settings, join(folder, `${randomUUID()}.iso`), bytes);
}

function readUserData(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new ConfigError(`user data ${path}: ${(error as Error).message}`);
  }
}
