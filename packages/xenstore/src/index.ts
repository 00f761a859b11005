/** xenstore: the small database through which domains and the host find each other. */

export { type DaemonConfig, XenstoreDaemon } from "./server/daemon.ts";
export { LocalClient, StoreAccess, type WatchHandle } from "./server/local-client.ts";
export { type DomainNodes, depopulateDomain, identifyDomain, populateDomain } from "./server/populate.ts";
export { RingConnection, type RingTransport } from "./server/ring-connection.ts";
export type { ConnectionState, NodeState, StoreState } from "./server/state.ts";
export { XsError, type XsErrorName } from "./store/error.ts";
export { domainPath } from "./store/path.ts";
export { DEFAULT_QUOTA, type Quota } from "./store/quota.ts";
