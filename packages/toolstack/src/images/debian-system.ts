/** What makes a tree of Debian's packages a system that boots by itself, and whose clones differ in what must differ. */
import { readFileSync } from "node:fs";
import { type FileTree, ROOT_OWNED } from "@xenoserver/storage";
import { AGENT_CONSOLE, AGENT_PROGRAM, COPY_HOOK } from "../agent/program.ts";
import type { KernelFlavour } from "../guest/index.ts";
import { link, write } from "./tree-files.ts";

/** Where a system has the agent. */
const AGENT_PATH = "usr/lib/xenoserver/agent";

export interface SystemOptions {
  readonly hostname: string;
  /** Of the root file system, as fstab has it. */
  readonly rootUuid: string;
  /** Lines of root's authorized_keys. */
  readonly sshKeys: readonly string[];
}

/** A Debian that boots, finds its network, and can be logged into. */
const BASE_PACKAGES: readonly string[] = ["systemd-sysv", "udev", "dbus", "iproute2", "kmod", "procps"];

/** Since Debian 12 the resolver is a package of its own. */
export const packagesOf = (suite: string, flavour: KernelFlavour): readonly string[] => [
  flavour === "cloud" ? "linux-image-cloud-amd64" : "linux-image-amd64",
  ...BASE_PACKAGES,
  ...(suite === "bullseye" ? [] : ["systemd-resolved"]),
];

/** The kernel's command line of such a system, without its root. */
export const CMDLINE = "ro console=hvc0 quiet";

const NETWORK = `[Match]
Type=ether

[Network]
DHCP=yes

[DHCPv4]
# Not by the machine's id, which copies of a running machine share.
ClientIdentifier=mac
UseDomains=yes
`;

/** Whoever has the console has the machine, as with a screen and a keyboard. */
const AUTOLOGIN = `[Service]
# Otherwise it waits for seconds for others to have printed what they have to.
Type=simple
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200,57600,38400,9600 %I $TERM
`;

const HOST_KEYS = `[Unit]
Description=This machine's own SSH keys
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=ssh.service
`;

/** Starts when the host offers its line: with the domain, or at any time later. */
const AGENT_RULE = `ACTION=="add|change", SUBSYSTEM=="xen", KERNEL=="console-${AGENT_CONSOLE}", TAG+="systemd", ENV{SYSTEMD_WANTS}+="xeno-agent.service"
`;

const AGENT_UNIT = `[Unit]
Description=Commands and files for the host
StartLimitIntervalSec=0

[Service]
ExecStart=/${AGENT_PATH} serve /dev/hvc${AGENT_CONSOLE}
Restart=on-failure
RestartSec=1
KillMode=process
`;

const COPIED = `#!/bin/sh
# A copy of this machine runs this as soon as it can, with its own name. What else has to be new in one may be added.
hostname "$1" && echo "$1" > /etc/hostname
sed -i "s/^127\\.0\\.1\\.1[[:space:]].*/127.0.1.1 $1/" /etc/hosts
`;

export function prepareSystem(tree: FileTree, { hostname, rootUuid, sshKeys }: SystemOptions): void {
  write(tree, "etc/hostname", `${hostname}\n`);
  write(tree, "etc/hosts", `127.0.0.1 localhost\n127.0.1.1 ${hostname}\n::1 localhost ip6-localhost ip6-loopback\n`);
  // The kernel replays the journal; a look at all of the file system at each start would wait for udev and take seconds.
  write(tree, "etc/fstab", `UUID=${rootUuid} / ext4 errors=remount-ro 0 0\n`);
  // Empty, it is filled at the first boot, so that no two clones have the same.
  write(tree, "etc/machine-id", "");
  tree.remove("var/lib/dbus/machine-id");
  write(tree, "etc/systemd/system/serial-getty@hvc0.service.d/autologin.conf", AUTOLOGIN);
  write(tree, AGENT_PATH, readFileSync(AGENT_PROGRAM), 0o755);
  write(tree, COPY_HOOK.slice(1), COPIED, 0o755);
  write(tree, "etc/udev/rules.d/60-xeno-agent.rules", AGENT_RULE);
  write(tree, "etc/systemd/system/xeno-agent.service", AGENT_UNIT);
  if (tree.get("etc/network/interfaces") === undefined) {
    write(tree, "etc/systemd/network/90-dhcp.network", NETWORK);
    enable(tree, "systemd-networkd.service", "multi-user.target.wants");
    enable(tree, "systemd-networkd.socket", "sockets.target.wants");
  }
  if (tree.file("lib/systemd/system/systemd-resolved.service") !== undefined) {
    enable(tree, "systemd-resolved.service", "multi-user.target.wants");
    link(tree, "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
  }
  // Otherwise its first start ends in an error: it wants to set a locale that nobody has generated.
  if (tree.get("etc/cloud/cloud.cfg.d") !== undefined && tree.file("usr/lib/locale/locale-archive") === undefined)
    write(tree, "etc/cloud/cloud.cfg.d/95_no-locale.cfg", "locale: false\n");
  if (tree.file("usr/sbin/sshd") !== undefined) prepareSsh(tree);
  if (sshKeys.length > 0) {
    tree.put("root/.ssh", { type: "directory", owner: { ...ROOT_OWNED, mode: 0o700 }, entries: new Map() });
    write(tree, "root/.ssh/authorized_keys", `${sshKeys.join("\n")}\n`, 0o600);
  }
}

/** The keys that the package made would be the same in each clone. */
function prepareSsh(tree: FileTree): void {
  const folder = tree.directory("etc/ssh");
  for (const name of [...folder.entries.keys()]) if (name.startsWith("ssh_host_")) folder.entries.delete(name);
  write(tree, "etc/systemd/system/ssh-host-keys.service", HOST_KEYS);
  link(tree, "etc/systemd/system/ssh.service.wants/ssh-host-keys.service", "../ssh-host-keys.service");
}

function enable(tree: FileTree, unit: string, target: string): void {
  link(tree, `etc/systemd/system/${target}/${unit}`, `/lib/systemd/system/${unit}`);
}
