/** The row of a whole Debian that starts from its disk, as `xeno image build` makes it, up to its login. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { copyDisk, RandomAccessFile, RawStore } from "@xenoserver/storage";
import { ImageStore } from "@xenoserver/storage/images/image-store.ts";
import { AGENT_PROGRAM } from "@xenoserver/toolstack/agent/program.ts";
import { writeWhole } from "@xenoserver/toolstack/guest/cache.ts";
import { cacheDir, type Progress } from "@xenoserver/toolstack/guest/index.ts";
import { canonicalModule, MODULE_SUFFIX, unpackModule } from "@xenoserver/toolstack/guest/modules.ts";
import { diskRamdisk, type ModuleFolder } from "@xenoserver/toolstack/images/disk-ramdisk.ts";
import { buildDebian } from "@xenoserver/toolstack/images/index.ts";
import type { GuestSource } from "./guest-files.ts";
import type { GuestSpec } from "./machines.ts";
import type { MachineId } from "./summary.ts";

const MEMORY_MIB = 512;
const DISK_BYTES = 2 * 2 ** 30;
const NAME = "debian";

/** What agetty shows before it lets root in, as images have it: "debian login: root (automatic login)". */
export const LOGIN_PROMPT = new RegExp(`\\b${NAME} login:`);

/** What leads to the disk, and in QEMU to the console; Debian's kernel has Xen's console built in. */
export const DRIVERS: Readonly<Record<MachineId, readonly string[]>> = {
  tcg: ["virtio_mmio", "virtio_console", "virtio_blk"],
  ours: ["xen_blkfront"],
};

export interface LoginSystem {
  /** The same disk as it was built, in a file of its own; the guest before must have ended. */
  guest(machine: MachineId): GuestSpec;
}

/**
 * Builds the system, or finds it in the cache.
 * @throws PackageError  mmdebstrap is not installed, or packages cannot be had
 */
export async function openLoginSystem(source: GuestSource, progress: Progress): Promise<LoginSystem> {
  const { kernel } = source;
  const folder = join(cacheDir(), "bench");
  const built = join(folder, `${imageName(kernel.bzImage)}.img`);
  if (!existsSync(built)) await build(source, built, progress);
  const modules = modulesUnder(await source.modules());
  const ramdisks = {} as Record<MachineId, string>;
  for (const [machine, drivers] of Object.entries(DRIVERS) as [MachineId, readonly string[]][]) {
    ramdisks[machine] = join(folder, `login-${machine}.cpio`);
    writeWhole(ramdisks[machine], await diskRamdisk(modules, drivers));
  }
  const disk = ownDisk(folder);
  return {
    guest: (machine) => {
      copyFresh(built, disk);
      return { kernel, initramfs: ramdisks[machine], memoryMib: MEMORY_MIB, network: false, disk, diskIsRoot: true };
    },
  };
}

/** Two benchmarks at a time have one each; those of benchmarks that were killed go. */
function ownDisk(folder: string): string {
  for (const left of globSync("login-*.img", { cwd: folder })) {
    const pid = Number(/\d+/.exec(left)?.[0]);
    if (!existsSync(`/proc/${pid}`)) rmSync(join(folder, left), { force: true });
  }
  const disk = join(folder, `login-${process.pid}.img`);
  process.on("exit", () => rmSync(disk, { force: true }));
  return disk;
}

/** Another kernel, or another way to make images, makes another one. */
function imageName(bzImage: string): string {
  const hash = createHash("sha256");
  const makers = ["debian-system.ts", "quick-start.ts"].map(
    (name) => new URL(import.meta.resolve(`@xenoserver/toolstack/images/${name}`)),
  );
  for (const file of [...makers, AGENT_PROGRAM]) hash.update(readFileSync(file));
  return `${basename(bzImage).replace("vmlinuz-", `${NAME}-`)}-${hash.digest("hex").slice(0, 16)}`;
}

async function build({ suite, kernel }: GuestSource, path: string, progress: Progress): Promise<void> {
  progress(`building a disk with Debian ${suite}, once`);
  mkdirSync(join(cacheDir(), "bench"), { recursive: true });
  const folder = mkdtempSync(join(cacheDir(), "bench", "building-"));
  try {
    const store = await ImageStore.open(folder);
    await buildDebian(store, {
      release: suite,
      name: NAME,
      hostname: NAME,
      packages: [],
      sizeBytes: DISK_BYTES,
      progress,
    });
    const release = (await store.extras(NAME)).about?.["kernel"];
    if (release !== kernel.release)
      throw new Error(
        `the disk's packages brought the kernel ${release}, expected ${kernel.release}; is apt's list old?`,
      );
    const raw = join(folder, "disk.img");
    await (await RandomAccessFile.create(raw, DISK_BYTES)).close();
    const target = await RawStore.open(raw, { readOnly: false });
    await copyDisk(await store.openImage(NAME), target);
    await target.close();
    renameSync(raw, path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Holes stay holes. What is still to be written to the host's disk is written before the clock runs. */
function copyFresh(from: string, to: string): void {
  for (const [program, args] of [
    ["cp", ["--reflink=auto", "--sparse=always", from, to]],
    ["sync", [to]],
  ] as const) {
    const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
    if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${error?.message ?? stderr.trim()}`);
  }
}

function modulesUnder(folder: string): ModuleFolder {
  const files = new Map(
    globSync("kernel/**/*.ko{,.xz,.gz,.zst}", { cwd: folder }).map((path) => [
      canonicalModule(basename(path).replace(MODULE_SUFFIX, "")),
      join(folder, path),
    ]),
  );
  return {
    read: async (name) => {
      const path = files.get(name);
      return path === undefined ? undefined : unpackModule(readFileSync(path), path);
    },
  };
}
