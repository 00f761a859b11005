/** What a domain has used of its host. All counts are since its start, and only grow unless it is said otherwise. */
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";
import type { Domain } from "@xenoserver/xen";
import { Runstate } from "@xenoserver/xen/abi/vcpu.ts";
import { Field, VcpuField, VcpuLife } from "@xenoserver/xen/domain/layout.ts";
import type { VcpuRecord } from "@xenoserver/xen/domain/vcpu-record.ts";
import { runstateTimes } from "@xenoserver/xen/time/runstate.ts";

export interface VcpuCounters {
  readonly id: number;
  /** What it does now. */
  readonly state: "running" | "runnable" | "blocked" | "offline";
  /** Time in which it ran, in nanoseconds. */
  readonly ranNs: number;
}

export interface DiskCounters {
  readonly kind: "disk";
  readonly vdev: string;
  readonly devid: number;
  /** As the guest sees it; may grow. */
  readonly sizeBytes: number;
  /** What its file takes of the host; may shrink. */
  readonly storedBytes: number;
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  readonly discards: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
}

/** Sent and received as the guest sees it: sent is tx. */
export interface VifCounters {
  readonly kind: "vif";
  readonly devid: number;
  readonly mac: string;
  readonly txPackets: number;
  readonly txBytes: number;
  readonly txErrors: number;
  readonly rxPackets: number;
  readonly rxBytes: number;
  readonly rxDropped: number;
}

export type DeviceCounters = DiskCounters | VifCounters;

/** What went through devices, those included that are not there any more. */
export interface Traffic {
  readonly diskReadBytes: number;
  readonly diskWrittenBytes: number;
  readonly diskReadRequests: number;
  readonly diskWriteRequests: number;
  readonly netSentBytes: number;
  readonly netReceivedBytes: number;
}

export interface DeviceReport {
  readonly devices: readonly DeviceCounters[];
  readonly traffic: Traffic;
}

export interface DomainCounters extends DeviceReport {
  readonly vcpus: readonly VcpuCounters[];
  /** What the guest owns now; goes up and down with its balloon. */
  readonly memoryBytes: number;
}

export const NO_TRAFFIC: Traffic = {
  diskReadBytes: 0,
  diskWrittenBytes: 0,
  diskReadRequests: 0,
  diskWriteRequests: 0,
  netSentBytes: 0,
  netReceivedBytes: 0,
};

export function addTraffic(a: Traffic, b: Traffic): Traffic {
  const keys = Object.keys(NO_TRAFFIC) as (keyof Traffic)[];
  return Object.fromEntries(keys.map((key) => [key, a[key] + b[key]])) as unknown as Traffic;
}

export function trafficOf(device: DeviceCounters): Traffic {
  if (device.kind === "vif") {
    return { ...NO_TRAFFIC, netSentBytes: device.txBytes, netReceivedBytes: device.rxBytes };
  }
  return {
    ...NO_TRAFFIC,
    diskReadBytes: device.readBytes,
    diskWrittenBytes: device.writtenBytes,
    diskReadRequests: device.reads,
    diskWriteRequests: device.writes,
  };
}

const STATES: Readonly<Record<Runstate, VcpuCounters["state"]>> = {
  [Runstate.running]: "running",
  [Runstate.runnable]: "runnable",
  [Runstate.blocked]: "blocked",
  // Its thread has not come to it yet.
  [Runstate.offline]: "runnable",
};

/**
 * @param nowNs        the domain's system time
 * @param ranBeforeNs  by vcpu: what was counted elsewhere, before the domain was saved or moved
 */
export function countersOf(
  domain: Domain,
  nowNs: number,
  devices: DeviceReport,
  ranBeforeNs: readonly number[],
): DomainCounters {
  const vcpus = domain.vcpus.map((record) => ({
    id: record.id,
    state:
      record.get(VcpuField.life) === VcpuLife.online ? STATES[record.get(VcpuField.runstate) as Runstate] : "offline",
    ranNs: ranNs(record, nowNs) - (ranBeforeNs[record.id] ?? 0),
  }));
  return { vcpus, memoryBytes: domain.get(Field.currentPages) * PAGE_BYTES, ...devices };
}

export const ranNs = (record: VcpuRecord, nowNs: number): number => runstateTimes(record, nowNs)[Runstate.running]!;
