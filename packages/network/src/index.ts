/** Networks that a domain's interfaces can be plugged into. */
export type { UserNetworkConfig } from "./user/config.ts";
export type { Forward } from "./user/forward.ts";
export { UserNetwork } from "./user/network.ts";
