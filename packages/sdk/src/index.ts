/** Linux machines as objects of a program. */
export type { Domain, DomainSpec, End, ExecOptions, ExecResult, Host, SnapshotReport } from "./domain.ts";
export { inProcess } from "./in-process.ts";
export { Server } from "./server.ts";
