/** The hypervisor: what the toolstack assembles a domain from. */

export type { EvtchnPort } from "./abi/event-channel.ts";
export { Gntst, type GrantRef } from "./abi/grant-table.ts";
export { ShutdownReason, shutdownReasonName } from "./abi/sched.ts";
export type { DomId } from "./abi/xen.ts";
export * from "./builder/index.ts";
export { type CpuidConfig, cpuidLeaves } from "./cpuid/table.ts";
export { Domain, type DomainConfig } from "./domain/domain.ts";
export { type Discard, FrameReclaimer } from "./domain/reclaim.ts";
export { loadControl, saveControl, specialPages } from "./domain/saved.ts";
export { type HostChannel, HostEventChannels } from "./evtchn/host.ts";
export { HostGrants, type MappedGrant, type MappedPages } from "./grant/host.ts";
export { type Clock, FakeClock, HostClock, TSC_KHZ } from "./time/clock.ts";
export { isResting, pauseDomain, unpauseDomain } from "./vcpu/pause.ts";
export { type NextTurn, runVcpu, runVcpuInTurn, type VcpuLoopConfig } from "./vcpu/run.ts";
