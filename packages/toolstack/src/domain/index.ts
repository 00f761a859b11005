/** Domains: what they are built from, their start and their end. */
export type { DeviceCounters, DiskCounters, DomainCounters, VcpuCounters, VifCounters } from "./counters.ts";
export { launchDomain } from "./launch.ts";
export { type DomainPlan, describePlan, planDomain } from "./plan.ts";
export type {
  DomainListener,
  EngineChoice,
  ExitReason,
  ExitReport,
  LaunchOptions,
  RunningDomain,
} from "./running-domain.ts";
