/** Xen built to run as a PVH kernel with one paravirtual guest, out of Debian's package. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { findInDeb } from "../deb/deb.ts";
import { cacheDir, writeWhole } from "./cache.ts";
import { PackageError, type PackageSource, type Progress, parseDepends } from "./package-source.ts";

const META_PACKAGE = "xen-system-amd64";

/**
 * Fetches a suite's shim, or finds it in the cache.
 * @returns the path, for `pvshim_path`
 * @throws PackageError  the suite has none, or it cannot be fetched
 */
export async function fetchShim(source: PackageSource, progress: Progress): Promise<string> {
  const meta = await source.find(META_PACKAGE);
  const name = parseDepends(meta.depends)
    .flat()
    .find((dependency) => /^xen-utils-\d/.test(dependency));
  if (name === undefined)
    throw new PackageError(`package ${meta.name}: depends on "${meta.depends}", expected xen-utils of a version`);
  const record = await source.find(name);
  const path = join(cacheDir(), "kernels", `xen-shim_${record.version}`);
  if (existsSync(path)) return path;
  const deb = await source.download(record);
  progress(`unpacking the shim of ${record.name}`);
  const entry = findInDeb(readFileSync(deb), record.name, /\/boot\/xen-shim$/);
  if (entry === undefined) throw new PackageError(`package ${record.name}: has no boot/xen-shim`);
  writeWhole(path, entry.data);
  return path;
}
