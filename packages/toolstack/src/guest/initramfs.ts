/** The first root file system of a guest that is all shell: busybox, its names, and an init. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { debEntries } from "../deb/deb.ts";
import { cacheDir, writeWhole } from "./cache.ts";
import { sha256 } from "./debs.ts";
import { type FetchedKernel, unpackModules } from "./kernel.ts";
import { addModules } from "./modules.ts";
import { PackageError, type PackageRecord, type PackageSource, type Progress } from "./package-source.ts";
import { RootTree } from "./root-tree.ts";

/** What init prints once user space runs; boot time is measured up to here. */
export const INIT_MARKER = "xeno: init reached";

export interface InitramfsOptions {
  readonly hostname?: string;
  /** Debian packages to unpack with everything that they depend on. Their install scripts are not run. */
  readonly packages?: readonly string[];
  /** Kernel modules to load before init says that it is there, with what they depend on. */
  readonly modules?: { readonly kernel: FetchedKernel; readonly names: readonly string[] };
  /** A shell script that init runs in place of the interactive shell; the guest powers off behind it. */
  readonly script?: string;
  /** Last word on the contents, e.g. to add a test's own files. */
  readonly customise?: (tree: RootTree) => void;
}

/**
 * Builds an initramfs.
 * @returns the archive's path in the cache; the same contents give the same path
 * @throws  PackageError  busybox or another package cannot be had
 */
export async function buildInitramfs(
  source: PackageSource,
  options: InitramfsOptions,
  progress: Progress,
): Promise<string> {
  const records = options.packages?.length ? await source.closure(options.packages) : [];
  const busybox = await source.find("busybox-static");
  const contents = [...records.filter(({ name }) => name !== busybox.name), busybox];
  const path = join(cacheDir(), "initramfs", `${contentKey(contents, options)}.cpio`);
  if (options.customise === undefined && existsSync(path)) return path;

  const tree = new RootTree();
  for (const record of contents) tree.addPackage(debEntries(readFileSync(await source.download(record)), record.name));
  tree.remove("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/locale", "usr/share/initramfs-tools");
  addBusyboxNames(tree);
  addSystem(tree, options);
  if (options.modules !== undefined) {
    const { kernel, names } = options.modules;
    const folder = await unpackModules(source, kernel, progress);
    addModules(tree, { release: kernel.release, folder }, names);
  }
  options.customise?.(tree);

  const archive = tree.toNewc();
  progress(`initramfs of ${(archive.length / 1e6).toFixed(1)} MB with busybox ${busybox.version}`);
  const own = join(cacheDir(), "initramfs", `${sha256(archive).slice(0, 16)}.cpio`);
  const target = options.customise === undefined ? path : own;
  writeWhole(target, archive);
  return target;
}

/** Changed whenever the same packages and options would give another archive. */
const LAYOUT_VERSION = 4;

/** Names an archive by what goes into it, so that it need not be built to be found. */
function contentKey(records: readonly PackageRecord[], options: InitramfsOptions): string {
  const system = new RootTree();
  addSystem(system, options);
  const { modules } = options;
  const kernel = modules === undefined ? [] : [modules.kernel.modulesPackage.sha256, ...modules.names];
  const parts = [LAYOUT_VERSION, sha256(system.toNewc()), ...records.map((record) => record.sha256), ...kernel];
  return sha256(parts.join(" ")).slice(0, 16);
}

function addSystem(tree: RootTree, options: InitramfsOptions): void {
  for (const path of ["dev", "etc", "proc", "root", "run", "sys", "tmp", "var/log", "mnt"]) tree.directory(path);
  tree.charDevice("dev/console", 5, 1);
  tree.charDevice("dev/null", 1, 3, 0o666);
  tree.file("etc/hostname", `${options.hostname ?? "xeno"}\n`);
  tree.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
  tree.file("etc/group", "root:x:0:\nnogroup:x:65534:\n");
  tree.file("etc/profile", PROFILE);
  tree.file("init", INIT, 0o755);
  for (const name of ["poweroff", "reboot"]) tree.file(`sbin/${name}`, endScript(name), 0o755);
  tree.file("etc/udhcpc/default.script", UDHCPC_SCRIPT, 0o755);
  if (options.script !== undefined) tree.file("etc/xeno-script", options.script, 0o755);
}

const PROFILE = `export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="\${TERM:-linux}"
export PS1='root@\\h:\\w# '
cd
`;

// Only builtins and busybox run here. cttyhack makes the console a controlling terminal, so that Ctrl-C and job
// control work; init itself must never end, or the kernel panics.
const INIT = `#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
# The interface appears a while after its module was loaded.
dhcp() {
  for n in 1 2 3 4 5 6 7 8 9 10; do [ -e /sys/class/net/$1 ] && break; sleep 0.5; done
  ip link set $1 up && udhcpc -i $1 -q -n -t 5
}
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
hostname -F /etc/hostname
ip link set lo up
[ -e /etc/modules ] && xargs -r modprobe -a < /etc/modules
if grep -qs xen_netfront /etc/modules; then (dhcp eth0 >/dev/null 2>&1 &); fi
echo "${INIT_MARKER}"
if [ -x /etc/xeno-script ]; then
  setsid cttyhack /etc/xeno-script
else
  setsid cttyhack sh -l
fi
poweroff -f
`;

/** What the kernel runs when the toolstack asks for an end. Init is a shell, to which busybox's own requests mean nothing. */
const endScript = (name: string): string => `#!/bin/sh
sync
exec /bin/busybox ${name} -f
`;

/** What udhcpc calls with what it has learned. */
const UDHCPC_SCRIPT = `#!/bin/sh
case $1 in
deconfig)
  ip -4 addr flush dev $interface
  ip link set $interface up
  ;;
bound|renew)
  ip addr replace $ip/\${mask:-24} dev $interface
  [ -n "$mtu" ] && ip link set $interface mtu $mtu
  [ -n "$router" ] && ip route replace default via \${router%% *} dev $interface
  for server in $dns; do echo nameserver $server; done > /etc/resolv.conf
  ;;
esac
`;

/** Busybox is one program under many names; making them here spares the guest a few hundred system calls at boot. */
function addBusyboxNames(tree: RootTree): void {
  const program = tree.read("bin/busybox");
  if (program === undefined) throw new PackageError("package busybox-static: has no bin/busybox");
  for (const name of appletNames(program)) {
    const path = `bin/${name}`;
    if (!tree.has(path) && !tree.has(`usr/sbin/${name}`) && !tree.has(`usr/bin/${name}`)) tree.symlink(path, "busybox");
  }
}

/**
 * The names that a busybox program answers to, read from its table: NUL-terminated strings in ascending order that
 * start with "[" and "[[".
 */
export function appletNames(program: Uint8Array): string[] {
  const bytes = Buffer.from(program.buffer, program.byteOffset, program.byteLength);
  for (let start = bytes.indexOf("[\0[[\0"); start !== -1; start = bytes.indexOf("[\0[[\0", start + 1)) {
    const names = ascendingNames(bytes, start);
    if (names.includes("sh")) return names;
  }
  throw new PackageError("package busybox-static: its table of names was not found");
}

function ascendingNames(bytes: Buffer, start: number): string[] {
  const names: string[] = [];
  for (let at = start; at < bytes.length; ) {
    const end = bytes.indexOf(0, at);
    const name = bytes.toString("latin1", at, end);
    if (!/^[[a-z0-9._-]+$/.test(name) || name <= (names.at(-1) ?? "")) break;
    names.push(name);
    at = end + 1;
  }
  return names;
}
