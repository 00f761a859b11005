/** Linux machines as objects of a program. */
export type {
  Domain,
  DomainSpec,
  End,
  ExecOptions,
  ExecResult,
  ForkOptions,
  Host,
  Progress,
  SnapshotReport,
  Watching,
} from "./domain.ts";
export { inProcess } from "./in-process.ts";
export { type AgentDomain, type CreateOptions, type MigrateOptions, Server } from "./server.ts";
