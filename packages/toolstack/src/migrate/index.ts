/** Domains that move to another server while they run. */
export { awaitArrival } from "./arrival.ts";
export { type LeaveOptions, Leaving, type LeavingDisk } from "./leaving.ts";
export { removeLeft } from "./left-list.ts";
export type { Places } from "./luggage.ts";
export type { Hand, MigrationProgress } from "./progress.ts";
export { ArrivingDomain } from "./receive.ts";
export { MigrationInDoubt, type MigrationReport, MigrationTorn, sendDomain } from "./send.ts";
