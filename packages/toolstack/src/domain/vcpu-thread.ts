/** Entry of a vcpu's worker thread: runs the vcpu until its domain shuts down. */
import { isMainThread, parentPort } from "node:worker_threads";
import { DomainMemory, type Vcpu, type VcpuEngine } from "@xenoserver/cpu";
import { WasmEngine } from "@xenoserver/cpu/wasm-engine.ts";
import { cpuidLeaves, Domain, HostClock, runVcpu } from "@xenoserver/xen";
import { fetchFrames } from "../snapshot/frame-source.ts";
import { RegionClient } from "./region-channel.ts";
import { threadId } from "./thread-id.ts";
import type { VcpuBegin, VcpuMessage, VcpuThreadData } from "./vcpu-messages.ts";

// Whoever loads this elsewhere wants it compiled, not run.
if (!isMainThread) {
  parentPort!.once("message", (data: VcpuThreadData) => {
    parentPort!.postMessage({ kind: "thread", tid: threadId() } satisfies VcpuMessage);
    const run = prepare(data);
    parentPort!.once("message", (begin: VcpuBegin) => run(begin));
  });
}

/** Makes all that does not need the domain. @returns what runs the vcpu until the domain shuts down */
function prepare({ vcpuId, nrVcpus, domid, memory: handle, engine: choice, regions }: VcpuThreadData) {
  const memory = DomainMemory.attach(handle);
  const cpuid = cpuidLeaves({ domid, vcpuId, nrVcpus });
  const service = regions && { regions: new RegionClient(regions) };
  let clock: HostClock | undefined;
  const engine = new WasmEngine(memory, { cpuid, nowNs: () => clock!.nowNs(), ...choice, ...service });
  const vcpu = engine.createVcpu(vcpuId);
  return ({ control, start, saved, frames }: VcpuBegin): void => {
    if (frames !== undefined) fetchFrames(memory, frames);
    const domain = Domain.attach(control, memory);
    clock = new HostClock(domain);
    if (start !== undefined) engine.start(vcpu, start);
    if (saved !== undefined) engine.resume(vcpu, saved);
    runInDomain(engine, vcpu, domain, clock);
  };
}

function runInDomain(engine: WasmEngine, vcpu: Vcpu, domain: Domain, clock: HostClock): void {
  const tell = (message: VcpuMessage): void => parentPort!.postMessage(message);
  const log = (message: string): void => tell({ kind: "log", message });

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
