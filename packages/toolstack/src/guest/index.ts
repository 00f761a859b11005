/** Fetching and building of guests. */
export { AptSource, machineArchive } from "./apt.ts";
export { cacheDir } from "./cache.ts";
export { buildInitramfs, INIT_MARKER, type InitramfsOptions } from "./initramfs.ts";
export { type FetchedKernel, fetchKernel, type KernelFlavour, unpackModules } from "./kernel.ts";
export { PackageError, type PackageRecord, type PackageSource, type Progress } from "./package-source.ts";
export { RootTree } from "./root-tree.ts";
