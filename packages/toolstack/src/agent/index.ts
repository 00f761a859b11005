/** Commands and files in a running guest. */
export { type ExecOptions, type ExecResult, GuestAgent } from "./guest-agent.ts";
export { AgentError, type GuestProcess, type ProcessExit } from "./guest-process.ts";
export type { TerminalSize } from "./protocol.ts";
