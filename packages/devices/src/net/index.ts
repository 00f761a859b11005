/** Network interfaces. */
export type { Rate } from "./credit.ts";
export {
  ALL_OFFLOADS,
  type ChecksumState,
  type Frame,
  type Frames,
  NO_OFFLOADS,
  type Offloads,
  plug,
  unplug,
} from "./frames.ts";
export { type VifConfig, type VifCounts, VifDriver } from "./vif.ts";
