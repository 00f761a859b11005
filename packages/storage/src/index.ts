/** Where disks are kept. */
export { StorageError } from "./error.ts";
export { detectFormat, type ImageFormat, type OpenOptions, openImage } from "./open.ts";
export type { ChunkSource } from "./images/chunk-folder.ts";
export { defaultStoreFolder, ImageStore, type NamedImage } from "./images/image-store.ts";
export { OverlayStore } from "./images/overlay.ts";
export { createQcow2, type NewImage } from "./qcow2/create.ts";
export { RawStore } from "./raw/raw-store.ts";
