export { ConsoleBackend, type ConsoleConfig, type ConsoleState } from "./backend.ts";
