export { type BootModule, type BuildConfig, type BuiltDomain, buildDomain } from "./build.ts";
export { BuildError, type BuildErrorCode } from "./errors.ts";
export {
  freeBytes,
  type ImageBytes,
  type KernelImage,
  KernelImageError,
  loadKernelImage,
  type UnpackedPayloads,
  unpack,
} from "./image/index.ts";
export { CONSOLE_GFN, framesNeeded, MAX_MEMORY_MIB, MIN_MEMORY_MIB, XENSTORE_GFN } from "./memory-map.ts";
