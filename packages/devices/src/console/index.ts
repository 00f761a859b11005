export { ConsoleBackend, type ConsoleConfig, type ConsoleState } from "./backend.ts";
export { type ConsoleChannelConfig, ConsoleDriver } from "./driver.ts";
