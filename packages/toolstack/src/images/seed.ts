/**
 * What a machine is told when it is started for the first time, for cloud-init: a small disk that it finds by its label.
 * @see cloud-init's documentation, "NoCloud" and "Networking config Version 2"
 */
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { IsoImage } from "@xenoserver/storage";
import { ConfigError } from "../cfg/index.ts";

export interface SeedOptions {
  readonly hostname: string;
  /** As cloud-init takes it: "#cloud-config" and YAML, a script, and so on. Without, keys let root in too. */
  readonly userData?: string;
  /** Lines of authorized_keys, for the system's first user. */
  readonly sshKeys?: readonly string[];
  /** Without, the machine asks for one by DHCP. */
  readonly address?: SeedAddress;
}

export interface SeedAddress {
  /** Of the interface that has it. */
  readonly mac: string;
  /** "10.0.2.20/24" */
  readonly address: string;
  readonly gateway?: string;
  readonly nameservers: readonly string[];
}

const LABEL = "CIDATA";
/** cloud-init reads no more of it from other sources, and it goes into memory. */
const MAX_USER_DATA_BYTES = 16 << 20;

/**
 * Makes the disk. Equal options give equal disks, and a machine that has seen one takes it for the same.
 * @throws ConfigError  an address is none, or the user's data are too many bytes
 */
export function seedDisk(options: SeedOptions): IsoImage {
  const { hostname, userData, sshKeys = [], address } = options;
  if (userData !== undefined && Buffer.byteLength(userData) > MAX_USER_DATA_BYTES)
    throw new ConfigError(`user data: ${Buffer.byteLength(userData)} bytes, expected ≤ ${MAX_USER_DATA_BYTES}`);
  const instance = createHash("sha256").update(JSON.stringify(options)).digest("hex").slice(0, 16);
  // JSON is YAML.
  const metaData = {
    "instance-id": `xeno-${instance}`,
    "local-hostname": hostname,
    ...(sshKeys.length > 0 && { "public-keys": sshKeys }),
  };
  return IsoImage.make(
    {
      "meta-data": `${JSON.stringify(metaData)}\n`,
      "user-data": userData ?? `#cloud-config\n${JSON.stringify(defaultUserData(sshKeys))}\n`,
      ...(address !== undefined && { "network-config": `${JSON.stringify(networkConfig(address))}\n` }),
    },
    { label: LABEL },
  );
}

const defaultUserData = (sshKeys: readonly string[]): object =>
  sshKeys.length > 0 ? { disable_root: false, ssh_authorized_keys: sshKeys } : {};

function networkConfig({ mac, address, gateway, nameservers }: SeedAddress): object {
  const [ip = "", prefix = ""] = address.split("/");
  const version = isIP(ip);
  if (version === 0 || !/^\d{1,3}$/.test(prefix) || Number(prefix) > (version === 4 ? 32 : 128))
    throw new ConfigError(`address is ${JSON.stringify(address)}, expected such as 10.0.2.20/24`);
  for (const one of [gateway, ...nameservers])
    if (one !== undefined && isIP(one) === 0)
      throw new ConfigError(`address is ${JSON.stringify(one)}, expected such as 10.0.2.2`);
  return {
    version: 2,
    ethernets: {
      eth0: {
        match: { macaddress: mac },
        addresses: [address],
        ...(gateway !== undefined && (version === 4 ? { gateway4: gateway } : { gateway6: gateway })),
        nameservers: { addresses: nameservers },
      },
    },
  };
}
