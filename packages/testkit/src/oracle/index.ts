export * from "./case.ts";
export * from "./codec.ts";
export { HostCpu } from "./host.ts";
