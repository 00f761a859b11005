/** Where disks are kept. */
export { copyDisk } from "./copy.ts";
export { StorageError } from "./error.ts";
export type { ChunkSource } from "./images/chunk-folder.ts";
export { defaultStoreFolder, ImageStore, type NamedImage, openDefaultStore } from "./images/image-store.ts";
export { OverlayStore } from "./images/overlay.ts";
export { openRemote, RemoteImages } from "./images/remote.ts";
export { detectFormat, type ImageFormat, type OpenOptions, openImage } from "./open.ts";
export { createQcow2, type NewImage } from "./qcow2/create.ts";
export { RandomAccessFile } from "./raw/file.ts";
export { RawStore } from "./raw/raw-store.ts";
