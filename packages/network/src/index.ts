/** Networks that a domain's interfaces can be plugged into. */
export { Filter, type FilterRules } from "./filter/filter.ts";
export type { AcceptRule } from "./filter/inbound.ts";
export { LeaseGate } from "./filter/lease-gate.ts";
export { type Passt, startPasst } from "./passt/passt.ts";
export { EthernetSwitch } from "./switch/switch.ts";
export { joinSwitch, serveSwitch } from "./switch/unix-socket.ts";
export { hasInterface } from "./tap/interface.ts";
export { openTapNetwork } from "./tap/tap.ts";
export type { UserNetworkConfig } from "./user/config.ts";
export type { Forward } from "./user/forward.ts";
export { UserNetwork } from "./user/network.ts";
