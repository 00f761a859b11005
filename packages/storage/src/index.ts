/** Where disks are kept. */
export { type BlockRun, BlockSet, SET_BLOCK_BYTES } from "./block-set.ts";
export { copyDisk } from "./copy.ts";
export { syncFolder } from "./durable.ts";
export { StorageError } from "./error.ts";
export { Ext4Image, type Ext4Options } from "./ext4/ext4-image.ts";
export * from "./files/index.ts";
export { type Digest, isDigest } from "./images/chunk.ts";
export type { ChunkSource } from "./images/chunk-folder.ts";
export {
  defaultStoreFolder,
  ImageStore,
  type ImportExtras,
  type NamedImage,
  openDefaultStore,
} from "./images/image-store.ts";
export type { AttachedFile, ImageExtras } from "./images/manifest.ts";
export { OverlayStore } from "./images/overlay.ts";
export { openRemote, RemoteImages } from "./images/remote.ts";
export { IsoImage, type IsoOptions } from "./iso9660/iso-image.ts";
export { detectFormat, type ImageFormat, type OpenOptions, openImage } from "./open.ts";
export { createQcow2, type NewImage } from "./qcow2/create.ts";
export { RandomAccessFile } from "./raw/file.ts";
export { RawStore } from "./raw/raw-store.ts";
