/** Domains that move to another server while they run. */
export { awaitArrival } from "./arrival.ts";
export { ArrivingDomain } from "./receive.ts";
export { MigrationInDoubt, type MigrationProgress, type MigrationReport, sendDomain } from "./send.ts";
