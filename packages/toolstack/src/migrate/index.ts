/** Domains that move to another server while they run. */
export { awaitArrival } from "./arrival.ts";
export type { Hand, MigrationProgress } from "./progress.ts";
export { ArrivingDomain } from "./receive.ts";
export { MigrationInDoubt, type MigrationReport, sendDomain } from "./send.ts";
