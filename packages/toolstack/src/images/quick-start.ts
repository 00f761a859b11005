/**
 * What a system of Debian's packages leaves out at its start. Each program that is started costs a translated guest a tenth of a second
 * and more, and systemd starts some for hardware, screens and disks that a domain has not.
 */
import { contentOf, type FileTree, ROOT_OWNED, readContent } from "@xenoserver/storage";
import { link, write } from "./tree-files.ts";

const UNITS = "etc/systemd/system";
const VENDOR_UNITS = "lib/systemd/system";

const MASKED: readonly string[] = [
  // Looks for snapshots of volumes that such a disk is not on, and takes its time.
  "e2scrub_reap.service",
  // File systems that are mounted by who needs them; the kernel loads their modules then.
  ...["sys-kernel-config.mount", "sys-fs-fuse-connections.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"],
  ...["dev-hugepages.mount", "modprobe@.service"],
  // Firmware's memory of crashes.
  "systemd-pstore.service",
  // Records of when the machine was started.
  ...["systemd-update-utmp.service", "systemd-update-utmp-runlevel.service"],
  // Done by the image: see `staticNodes`.
  "kmod-static-nodes.service",
  // Prompts on screens.
  "getty-static.service",
];

/** Look at each start for disks, partitions and images of kinds that are not there. */
const MASKED_GENERATORS = ["bless-boot", "cryptsetup", "gpt-auto", "hibernate-resume", "integritysetup", "veritysetup"];

/** Links by which something is started; what they lead to is there when it is asked for. */
const NOT_STARTED: readonly string[] = [
  `${UNITS}/getty.target.wants/getty@tty1.service`,
  // Started by D-Bus when somebody asks for it.
  `${VENDOR_UNITS}/multi-user.target.wants/systemd-logind.service`,
  // Package lists for all clones at the same hour, and a look at volumes.
  ...["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer"].map(
    (name) => `${UNITS}/timers.target.wants/${name}`,
  ),
];

/** Of these there are some hundred, and no rule says anything of them; of terminals, those that somebody logs in at are left. */
const UNTRIGGERED =
  "tty vc mem bdi event_source workqueue clockevents clocksource memory memory_tiering node cpu acpi platform vtconsole graphics";

const TRIGGER = `[Service]
ExecStart=
ExecStart=-udevadm trigger --type=devices --action=add --prioritized-subsystem=block,net,xen ${UNTRIGGERED.split(" ")
  .map((name) => `--subsystem-nomatch=${name}`)
  .join(" ")}
ExecStart=-udevadm trigger --type=devices --action=add --subsystem-match=tty --sysname-match=hvc*
`;

/** Of a file system of its own for each, in memory, nothing is put into. */
const WITHOUT_CREDENTIALS = [
  "systemd-sysctl",
  "systemd-sysusers",
  "systemd-tmpfiles-setup",
  "systemd-tmpfiles-setup-dev",
];

/** @param release  of the kernel that the image brings */
export async function quicken(tree: FileTree, release: string): Promise<void> {
  for (const name of MASKED) link(tree, `${UNITS}/${name}`, "/dev/null");
  for (const name of MASKED_GENERATORS)
    link(tree, `etc/systemd/system-generators/systemd-${name}-generator`, "/dev/null");
  for (const path of NOT_STARTED) tree.remove(path);
  write(tree, `${UNITS}/systemd-udev-trigger.service.d/few.conf`, TRIGGER);
  for (const name of WITHOUT_CREDENTIALS)
    write(tree, `${UNITS}/${name}.service.d/no-credentials.conf`, "[Service]\nLoadCredential=\n");
  // What they hold up is the login, which needs neither network nor names.
  await withoutOrder(tree, "systemd-resolved.service", "Before", ["sysinit.target"]);
  await withoutOrder(tree, "systemd-user-sessions.service", "After", ["remote-fs.target", "network.target"]);
  await staticNodes(tree, release);
  markUpdated(tree);
}

/** Takes the place of a unit by one that is the same but for other units that it is ordered against. */
async function withoutOrder(tree: FileTree, name: string, key: string, others: readonly string[]): Promise<void> {
  const unit = await textOf(tree, `${VENDOR_UNITS}/${name}`);
  if (unit === undefined) return;
  const changed = unit.replaceAll(new RegExp(`^${key}=(.*)$`, "gm"), (_, list: string) => {
    const left = list.split(/\s+/).filter((other) => !others.includes(other));
    return left.join("") === "" ? "" : `${key}=${left.join(" ")}`;
  });
  write(tree, `${UNITS}/${name}`, changed);
}

/** Device files whose first user has a module loaded. As `kmod static-nodes` has them at each start. */
async function staticNodes(tree: FileTree, release: string): Promise<void> {
  const table = (await textOf(tree, `lib/modules/${release}/modules.devname`)) ?? "";
  const lines = [...table.matchAll(/^[\w-]+ (\S+) ([cb])(\d+:\d+)$/gm)].map(([, path, type, numbers]) => {
    const mode = path === "fuse" || path === "net/tun" ? "0666" : "0600";
    return `${type}! /dev/${path} ${mode} - - - ${numbers}\n`;
  });
  write(tree, "etc/tmpfiles.d/static-nodes.conf", lines.join(""));
}

/** What systemd makes anew when /usr is younger, its packages' scripts have made. */
function markUpdated(tree: FileTree): void {
  const now = Math.floor(Date.now() / 1000);
  for (const folder of ["etc", "var"])
    tree.put(`${folder}/.updated`, {
      type: "file",
      owner: { ...ROOT_OWNED, mode: 0o644, mtime: now },
      content: contentOf(`TIMESTAMP_NSEC=${now}000000000\n`),
    });
}

const MAX_TEXT_BYTES = 1 << 20;

async function textOf(tree: FileTree, path: string): Promise<string | undefined> {
  const file = tree.file(path);
  return file && Buffer.from(await readContent(file.content, MAX_TEXT_BYTES, path)).toString("utf8");
}
