/** Disks: the backend of blkif, and what it reads from and writes to. */
export { BlockDriver, type DiskConfig } from "./driver.ts";
export { SECTOR_BYTES } from "./protocol.ts";
export type { RateLimits } from "./rate-limit.ts";
export type { BlockStats } from "./stats.ts";
export { type BlockInfo, type BlockStore, totalBytes } from "./store.ts";
