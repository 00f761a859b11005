/** Fetching and building of guests. */
export { cacheDir } from "./cache.ts";
export { buildInitramfs, INIT_MARKER, type InitramfsOptions } from "./initramfs.ts";
export { type FetchedKernel, fetchKernel, type KernelFlavour, unpackModules } from "./kernel.ts";
export { openPackageSource, type SourceOptions } from "./open-source.ts";
export { PackageError, type PackageRecord, type PackageSource, type Progress } from "./package-source.ts";
export { RootTree } from "./root-tree.ts";
export { fetchShim } from "./shim.ts";
