/** A container's image as an image of ours: its files on a root disk, and a kernel and ramdisk that start its program. */
import { readFileSync } from "node:fs";
import {
  contentOf,
  Ext4Image,
  FileTree,
  type ImageStore,
  type ImportExtras,
  Spool,
  walkTree,
} from "@xenoserver/storage";
import { AGENT_VERSION } from "../../agent/program.ts";
import { fetchKernel, type PackageSource, type Progress } from "../../guest/index.ts";
import { OciError, type OciImage } from "./image-spec.ts";
import { buildContainerInit, IMAGE_ROOT, INIT_CMDLINE } from "./init.ts";
import { processOf } from "./process.ts";
import { unpackLayers } from "./unpack.ts";

export interface ImportOciOptions {
  /** What the image is called in the store. */
  readonly name: string;
  /** Of the disk; the default has as much free as the files take, and 1 GiB at the least. */
  readonly sizeBytes?: number;
  /** Where the kernel and busybox come from; without, the image is a disk only, that something else has to boot. */
  readonly source?: PackageSource;
  readonly progress: Progress;
  readonly meter?: (part: number) => void;
}

const MAX_FILES_BYTES = 64 * 2 ** 30;
const GIB = 2 ** 30;

/**
 * @returns the digest of the image in the store
 * @throws  OciError, StorageError, PackageError
 */
export async function importOci(store: ImageStore, image: OciImage, options: ImportOciOptions): Promise<string> {
  const spool = await Spool.create(MAX_FILES_BYTES);
  try {
    const tree = new FileTree();
    await unpackLayers(image, tree, spool, options.progress);
    const extras = await extrasOf(image, tree, options);
    // Made of the image's digest, so that the same image gives the same disk.
    const uuid = Buffer.from(image.digest.slice("sha256:".length, "sha256:".length + 32), "hex");
    const disk = Ext4Image.make(tree, { sizeBytes: options.sizeBytes ?? sizeFor(tree, spool), uuid, label: "root" });
    return await store.import(options.name, disk, options.meter, extras);
  } finally {
    await spool.close();
  }
}

function sizeFor(tree: FileTree, spool: Spool): number {
  let files = 0;
  for (const _ of walkTree(tree.root)) files++;
  return Math.max(1, Math.ceil((2 * (spool.sizeBytes + files * 4096)) / GIB)) * GIB;
}

async function extrasOf(
  image: OciImage,
  tree: FileTree,
  { source, progress }: ImportOciOptions,
): Promise<ImportExtras> {
  const about = { os: "container", container: image.digest };
  if (source === undefined) return { about };
  const process = await processOf(image.config.process, tree, IMAGE_ROOT);
  if (process.args.length === 0)
    throw new OciError(`${image.name}: names no program to start, expected an entrypoint or cmd`);
  const kernel = await fetchKernel(source, "cloud", progress);
  const ramdisk = await buildContainerInit(source, kernel, process, progress);
  return {
    files: { kernel: contentOf(readFileSync(kernel.path)), ramdisk: contentOf(readFileSync(ramdisk)) },
    about: {
      ...about,
      program: process.args.join(" "),
      kernel: kernel.release,
      cmdline: INIT_CMDLINE,
      agent: AGENT_VERSION,
    },
  };
}
