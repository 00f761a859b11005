/** Containers' images. */
export { isTar } from "./archive-place.ts";
export { OciError, type OciImage } from "./image-spec.ts";
export { type ImportOciOptions, importOci } from "./import-oci.ts";
export { openOci } from "./open.ts";
export type { RegistryOptions } from "./registry.ts";
