/** A bootable image of Debian's packages. */
import { randomUUID } from "node:crypto";
import {
  addTar,
  type Content,
  contentOf,
  Ext4Image,
  FileTree,
  type ImageStore,
  Spool,
  walkTree,
} from "@xenoserver/storage";
import { AGENT_VERSION } from "../agent/program.ts";
import { type KernelFlavour, PackageError, type Progress } from "../guest/index.ts";
import { CMDLINE, packagesOf, prepareSystem } from "./debian-system.ts";
import { diskRamdisk, modulesIn } from "./disk-ramdisk.ts";
import { bootstrap, requireMmdebstrap } from "./mmdebstrap.ts";
import { quicken } from "./quick-start.ts";

export interface DebianImageOptions {
  /** A release's number or code name: "12", "bookworm". */
  readonly release: string;
  /** What the image is called in the store. */
  readonly name: string;
  /** In addition to what every image has. */
  readonly packages: readonly string[];
  /** Of the kernel: Debian's small one for virtual machines unless said otherwise. */
  readonly flavour?: KernelFlavour;
  /** Of the disk. */
  readonly sizeBytes: number;
  readonly hostname?: string;
  readonly sshKeys?: readonly string[];
  readonly mirror?: string;
  readonly keyring?: string;
  readonly progress: Progress;
  /** Told how much of the disk is in the store, from 0 to 1. */
  readonly meter?: (part: number) => void;
  readonly signal?: AbortSignal;
}

const CODE_NAMES: Readonly<Record<string, string>> = { 11: "bullseye", 12: "bookworm", 13: "trixie", 14: "forky" };
/** What packages may have together; the spool is sparse only as far as they need it. */
const MAX_FILES_BYTES = 64 * 2 ** 30;

/** @throws PackageError  a release has no such number, or its name is none */
export function codeNameOf(release: string): string {
  const name = CODE_NAMES[release] ?? release;
  if (/^[a-z]+$/.test(name)) return name;
  throw new PackageError(
    `release is ${JSON.stringify(release)}, expected ${Object.keys(CODE_NAMES).join(", ")} or a code name such as bookworm`,
  );
}

/** A release as images are called after it: its number, or its code name while it has none. */
export function releaseNumber(suite: string): string {
  return Object.entries(CODE_NAMES).find(([, name]) => name === suite)?.[0] ?? suite;
}

/**
 * Builds an image with mmdebstrap and keeps it in a store, with its kernel and ramdisk beside the disk.
 * @returns its digest
 * @throws  PackageError  mmdebstrap is not there, or packages cannot be had
 * @throws  StorageError  the disk is too small, or the store cannot be written
 */
export async function buildDebian(store: ImageStore, options: DebianImageOptions): Promise<string> {
  const suite = codeNameOf(options.release);
  for (const name of options.packages)
    if (!/^[a-z0-9][a-z0-9.+-]+$/.test(name))
      throw new PackageError(`package ${JSON.stringify(name)}: expected the name of a Debian package`);
  await requireMmdebstrap();
  const spool = await Spool.create(MAX_FILES_BYTES);
  try {
    const tree = new FileTree();
    const archive = await bootstrap({
      ...options,
      suite,
      packages: [...packagesOf(suite, options.flavour ?? "cloud"), ...options.packages],
    });
    await addTar(tree, archive, spool, { name: `Debian ${suite}` });
    const uuid = randomUUID();
    const { hostname = "debian", sshKeys = [] } = options;
    prepareSystem(tree, { hostname, rootUuid: uuid, sshKeys });
    const { kernel, release } = kernelOf(tree, suite);
    await quicken(tree, release);
    const ramdisk = contentOf(await diskRamdisk(modulesIn(tree, release)));
    const disk = Ext4Image.make(tree, {
      sizeBytes: options.sizeBytes,
      uuid: Buffer.from(uuid.replaceAll("-", ""), "hex"),
      label: "root",
      time: Math.floor(Date.now() / 1000),
    });
    options.progress(`keeping ${countFiles(tree)} files of ${(spool.sizeBytes / 2 ** 20).toFixed(0)} MiB`);
    const about = {
      os: `Debian ${osVersion(suite)}`,
      kernel: release,
      cmdline: CMDLINE,
      agent: AGENT_VERSION,
      packages: options.packages.join(" "),
    };
    return await store.import(options.name, disk, options.meter, { files: { kernel, ramdisk }, about });
  } finally {
    await spool.close();
  }
}

function osVersion(suite: string): string {
  const number = releaseNumber(suite);
  return number === suite ? suite : `${number} (${suite})`;
}

function countFiles(tree: FileTree): number {
  let count = 0;
  for (const _ of walkTree(tree.root)) count++;
  return count;
}

/** The kernel that the packages brought. */
function kernelOf(tree: FileTree, suite: string): { kernel: Content; release: string } {
  const folder = tree.directory("boot");
  const releases = [...folder.entries.keys()].flatMap((name) => /^vmlinuz-(.+)$/.exec(name)?.[1] ?? []);
  const release = releases.at(-1);
  const kernel = tree.file(`boot/vmlinuz-${release}`);
  if (release === undefined || kernel === undefined)
    throw new PackageError(`Debian ${suite}: its packages left no kernel in /boot`);
  return { kernel: kernel.content, release };
}
