/** Entry of a vcpu's worker thread: runs the vcpu until its domain shuts down. */
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { DomainMemory, type Vcpu, type VcpuEngine } from "@xenoserver/cpu";
import { WasmEngine } from "@xenoserver/cpu/wasm-engine.ts";
import { cpuidLeaves, Domain, HostClock, runVcpu } from "@xenoserver/xen";
import { RegionClient } from "./region-channel.ts";
import type { VcpuMessage, VcpuThreadData } from "./vcpu-messages.ts";

// Whoever loads this elsewhere wants it compiled, not run.
if (!isMainThread) runThread(workerData as VcpuThreadData);

function runThread({ vcpuId, memory: handle, control, engine: choice, regions, start }: VcpuThreadData): void {
  const tell = (message: VcpuMessage): void => parentPort!.postMessage(message);
  const log = (message: string): void => tell({ kind: "log", message });

  const memory = DomainMemory.attach(handle);
  const domain = Domain.attach(control, memory);
  const clock = new HostClock(domain);
  const cpuid = cpuidLeaves({ domid: domain.domid, vcpuId, nrVcpus: domain.vcpus.length });
  const service = regions && { regions: new RegionClient(regions) };
  const engine = new WasmEngine(memory, { cpuid, nowNs: () => clock.nowNs(), ...choice, ...service });
  const vcpu = engine.createVcpu(vcpuId);
  if (start !== undefined) engine.start(vcpu, start);

  const exits: Record<string, number> = {};
  const counting: VcpuEngine = {
    run(target: Vcpu) {
      const exit = engine.run(target);
      exits[exit.kind] = (exits[exit.kind] ?? 0) + 1;
      return exit;
    },
    kick: (target) => engine.kick(target),
    flushPhysmap: (target) => engine.flushPhysmap(target),
  };

  runVcpu({
    engine: counting,
    vcpu,
    domain,
    clock,
    log,
    debugConsole: (text) => log(`guest: ${text.trimEnd()}`),
    start: (target, at) => engine.start(target, at),
  });
  tell({ kind: "end", instructions: engine.instructionsOf(vcpu), exits, registers: vcpu.describe() });
}
