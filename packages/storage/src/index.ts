/** Where disks are kept. */
export { StorageError } from "./error.ts";
export { detectFormat, type ImageFormat, type OpenOptions, openImage } from "./open.ts";
export { createQcow2, type NewImage } from "./qcow2/create.ts";
export { RawStore } from "./raw/raw-store.ts";
