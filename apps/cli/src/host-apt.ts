/** How the host's apt reaches its archive, for the apt of a guest that has no other way than the host's. */
import { execFile } from "node:child_process";
import { networkInterfaces } from "node:os";
import { promisify } from "node:util";
import { machineArchive } from "@xenoserver/toolstack/guest/apt.ts";

const run = promisify(execFile);

export interface HostApt {
  /** Whether the archive or a proxy is this host itself, which a guest reaches only where it is let. */
  readonly isOnHost: boolean;
  /** Lines for the guest's shell. */
  readonly guestCommands: readonly string[];
}

/** This host's loopback, as guests of `net=user` see it. */
const GATEWAY = "10.0.2.2";
const CONF = "/etc/apt/apt.conf.d/95host";
const SCHEMES = ["http", "https"] as const;

/** @param mirror  the archive that is used instead of the machine's */
export async function hostAptSettings(mirror?: string): Promise<HostApt> {
  const proxies: [string, string][] = [];
  for (const scheme of SCHEMES) {
    const proxy = (await aptSetting(`Acquire::${scheme}::Proxy`)) || process.env[`${scheme}_proxy`] || "";
    if (/^https?:\/\//.test(proxy)) proxies.push([scheme, proxy]);
  }
  const archives = mirror === undefined ? ((await machineArchive())?.sources.map(({ uri }) => uri) ?? []) : [mirror];
  return describeApt(proxies, archives, hostAddresses());
}

/**
 * @param proxies    by scheme
 * @param archives   addresses of archives, as they are in the guest's list of sources
 * @param addresses  of this host, beside its loopback
 */
export function describeApt(
  proxies: readonly (readonly [string, string])[],
  archives: readonly string[],
  addresses: readonly string[],
): HostApt {
  const isLoopback = (url: string): boolean => /^(localhost|127\.[\d.]+|\[::1\])$/.test(hostOf(url));
  const isOurs = (url: string): boolean => isLoopback(url) || addresses.includes(hostOf(url));
  const seen = (url: string): string => (isLoopback(url) ? url.replace(hostOf(url), GATEWAY) : url);
  const lines = proxies.map(([scheme, url]) => `Acquire::${scheme}::Proxy "${seen(url)}";`);
  const changed = archives.filter(isLoopback).map((url) => `sed -i 's#${url}#${seen(url)}#g' /etc/apt/sources.list`);
  return {
    isOnHost: [...proxies.map(([, url]) => url), ...archives].some(isOurs),
    guestCommands: [
      lines.length === 0 ? `rm -f ${CONF}` : `printf '%s\\n' ${lines.map((line) => `'${line}'`).join(" ")} > ${CONF}`,
      ...changed,
    ],
  };
}

const hostOf = (url: string): string => /^\w+:\/\/(?:[^/@]*@)?(\[[^\]]*\]|[^/:]*)/.exec(url)?.[1] ?? "";

const hostAddresses = (): string[] =>
  Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));

async function aptSetting(name: string): Promise<string> {
  const shown = await run("apt-config", ["dump", "--format", "%v%n", name]).catch(() => ({ stdout: "" }));
  return shown.stdout.trim().split("\n")[0] ?? "";
}
