/** Domains: what they are built from, their start and their end. */
export { launchDomain } from "./launch.ts";
export { type DomainPlan, describePlan, planDomain } from "./plan.ts";
export type { DomainListener, EngineChoice, ExitReason, ExitReport, RunningDomain } from "./running-domain.ts";
