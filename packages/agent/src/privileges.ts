/** What root's privileges a domain's process keeps. */
import { existsSync } from "node:fs";

/**
 * Those that its devices need: others' files (disks, shared folders and who owns what in them), ports below 1024, the host's bridges and taps, weights and
 * processors, and who passt becomes.
 */
const KEPT = [
  ...["chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid"],
  ...["net_bind_service", "net_admin", "sys_nice"],
];

/** Of util-linux. */
const SETPRIV = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => existsSync(path));

/**
 * A command that has of root's privileges no more than a domain needs, whatever it may run, and cannot get others: no mounting, no kernel modules, no raw devices, no
 * looking into other processes. Anybody else's command, and that of a host without setpriv, is as it was.
 */
export function withFewPrivileges(command: readonly string[], uid = process.getuid?.()): readonly string[] {
  if (uid !== 0 || SETPRIV === undefined || process.platform !== "linux") return command;
  const bounds = ["-all", ...KEPT.map((name) => `+${name}`)].join(",");
  return [SETPRIV, "--no-new-privs", "--inh-caps", "-all", "--bounding-set", bounds, "--", ...command];
}
