/** A domain in a process of its own, and the socket by which it is told what to do. */

export { copyOfSpec, macsIn } from "../cfg/copy.ts";
export { memoryAtStartMib } from "../cfg/domain-config.ts";
export { configOf, type DomainSpec, type SpecValue, specOf } from "../cfg/spec.ts";
export { ControlClient, ControlLost } from "./client.ts";
export { DomainHost } from "./domain-host.ts";
export * from "./protocol.ts";
