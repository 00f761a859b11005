/** What root's privileges a domain's process keeps. */
import { existsSync, readFileSync } from "node:fs";

/**
 * What its devices need as they are, by the kernel's numbers: others' files (disks, shared folders and who owns what in them), ports below 1024, the host's bridges and taps, weights and
 * processors, and who passt becomes.
 */
const KEPT = {
  ...{ chown: 0, dac_override: 1, fowner: 3, fsetid: 4, kill: 5, setgid: 6, setuid: 7 },
  ...{ net_bind_service: 10, net_admin: 12, sys_nice: 23 },
} as const;
type Kept = keyof typeof KEPT;

/** Of a process with a user id of its own. It makes files for root, and reaches those that are root's. */
const KEPT_BY_OTHERS: readonly Kept[] = [
  ...(["chown", "dac_override", "fowner"] as const),
  ...(["net_bind_service", "net_admin", "sys_nice"] as const),
];
/** What it takes to start a process of another user that has those. */
const NEEDED_FOR_OTHERS: readonly Kept[] = ["chown", "dac_override", "fowner", "setgid", "setuid"];
const SETPCAP = 8;

/** Of util-linux. */
const SETPRIV = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => existsSync(path));

const isRootWithSetpriv = (uid: number | undefined): boolean =>
  uid === 0 && SETPRIV !== undefined && process.platform === "linux";

/**
 * A command that has of root's privileges no more than a domain needs, whatever it may run, and cannot get others: no mounting, no kernel modules, no raw devices, no
 * looking into other processes. Anybody else's command, and that of a host without setpriv, is as it was.
 * @param own  user and group that it is to have, if not root; see `canBeOthers`
 */
export function withFewPrivileges(
  command: readonly string[],
  own?: number,
  uid = process.getuid?.(),
): readonly string[] {
  if (!isRootWithSetpriv(uid)) return command;
  const only = (names: readonly string[]): string => ["-all", ...names.map((name) => `+${name}`)].join(",");
  if (own === undefined) {
    const bounds = only(Object.keys(KEPT));
    return [SETPRIV!, "--no-new-privs", "--inh-caps", "-all", "--bounding-set", bounds, "--", ...command];
  }
  // Ambient ones stay when a program is started, and only those that root has can be given on.
  const names = only(KEPT_BY_OTHERS.filter((name) => has(KEPT[name])));
  return [
    ...[SETPRIV!, "--no-new-privs", "--reuid", String(own), "--regid", String(own), "--clear-groups"],
    // access(2), by which Node tells whether files are there, would else go without privileges for any user but root.
    ...["--securebits", "+no_setuid_fixup"],
    ...["--inh-caps", names, "--ambient-caps", names, "--bounding-set", names, "--", ...command],
  ];
}

/** Whether this process can start others with user ids of their own that are of use. */
export const canBeOthers = (): boolean =>
  isRootWithSetpriv(process.getuid?.()) && has(SETPCAP) && NEEDED_FOR_OTHERS.every((name) => has(KEPT[name]));

let capabilities: bigint | undefined;
function has(number: number): boolean {
  capabilities ??= BigInt(`0x${/^CapPrm:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]}`);
  return ((capabilities >> BigInt(number)) & 1n) === 1n;
}
