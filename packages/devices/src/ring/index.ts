/** Shared rings and granted pages, from the host's side. */
export { BackRing, RingError, type RingIndices, type RingPage, ringEntries } from "./back-ring.ts";
export { GrantError, gntstName, mapGrants, unmapGrants } from "./grants.ts";
