/** Where disks are kept. */
export { StorageError } from "./error.ts";
export { RawStore } from "./raw/raw-store.ts";
