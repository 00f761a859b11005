/** Debian's kernels, taken out of their packages. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { debEntries, findInDeb } from "../deb/deb.ts";
import { cacheDir, writeWhole } from "./cache.ts";
import { PackageError, type PackageRecord, type PackageSource, type Progress, parseDepends } from "./package-source.ts";

/** Debian's names: the small build for virtual machines, and the one for everything. */
export type KernelFlavour = "cloud" | "generic";

export interface FetchedKernel {
  readonly package: string;
  readonly version: string;
  /** As `uname -r` prints it, e.g. "6.1.0-56-cloud-amd64". */
  readonly release: string;
  /** Path of the bzImage. */
  readonly path: string;
  /** The package that holds the modules; newer releases split it from the image. */
  readonly modulesPackage: PackageRecord;
}

const META_PACKAGES: Readonly<Record<KernelFlavour, string>> = {
  cloud: "linux-image-cloud-amd64",
  generic: "linux-image-amd64",
};

/**
 * Fetches the newest kernel of a suite, or finds it in the cache.
 * @throws PackageError  the suite has none, or it cannot be fetched
 */
export async function fetchKernel(
  source: PackageSource,
  flavour: KernelFlavour,
  progress: Progress,
): Promise<FetchedKernel> {
  const meta = await source.find(META_PACKAGES[flavour]);
  const name = parseDepends(meta.depends)
    .flat()
    .find((dependency) => /^linux-image-\d/.test(dependency));
  if (name === undefined) {
    throw new PackageError(`package ${meta.name}: depends on "${meta.depends}", expected a linux-image package`);
  }
  const image = await source.find(name);
  const release = name.slice("linux-image-".length);
  const parts = parseDepends(image.depends).flat();
  const part = (prefix: string): Promise<PackageRecord> | PackageRecord =>
    parts.includes(`${prefix}-${release}`) ? source.find(`${prefix}-${release}`) : image;
  const binary = await part("linux-binary");
  const deb = await source.download(binary);
  const path = join(cacheDir(), "kernels", `vmlinuz-${release}_${binary.version}`);
  if (!existsSync(path)) {
    progress(`unpacking the kernel of ${binary.name}`);
    const entry = findInDeb(readFileSync(deb), binary.name, /^boot\/vmlinuz-|\/vmlinuz$/);
    if (entry === undefined) throw new PackageError(`package ${binary.name}: has no vmlinuz file`);
    writeWhole(path, entry.data);
  }
  return { package: name, version: binary.version, release, path, modulesPackage: await part("linux-modules") };
}

/**
 * Unpacks a kernel's modules into the cache, once.
 * @returns the folder that a root file system has as lib/modules/RELEASE
 */
export async function unpackModules(source: PackageSource, kernel: FetchedKernel, progress: Progress): Promise<string> {
  const folder = join(cacheDir(), "kernels", `modules-${kernel.release}_${kernel.version}`);
  const done = join(folder, ".complete");
  if (existsSync(done)) return folder;
  const deb = await source.download(kernel.modulesPackage);
  progress(`unpacking the modules of ${kernel.modulesPackage.name}`);
  const prefix = new RegExp(`^(usr/)?lib/modules/${kernel.release.replaceAll(/[.+]/g, "\\$&")}/`);
  for (const entry of debEntries(readFileSync(deb), kernel.modulesPackage.name)) {
    if (entry.type === "file" && prefix.test(entry.path))
      writeWhole(join(folder, entry.path.replace(prefix, "")), entry.data);
  }
  writeWhole(done, "");
  return folder;
}
