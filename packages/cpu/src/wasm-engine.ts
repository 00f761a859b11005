import type { Exit, Vcpu, VcpuEngine, VcpuStart } from "./engine.ts";
import type { HandlerSample } from "./interp/main-loop.ts";
import type { DomainMemory } from "./memory/domain-memory.ts";
import { kickVcpu } from "./memory/kick.ts";
import { PROFILE_OFFSET } from "./state/layout.ts";
import type { Machine } from "./system/machine.ts";

import { type WasmEngineOptions, WasmVcpu } from "./wasm-vcpu.ts";

/** The portable engine: interprets x86-64 with generated WebAssembly. One instance per vcpu thread. */
export class WasmEngine implements VcpuEngine {
  private readonly memory: DomainMemory;
  private readonly options: WasmEngineOptions;

  constructor(memory: DomainMemory, options: WasmEngineOptions) {
    this.memory = memory;
    this.options = options;
  }

  /** Makes a vcpu of the domain run on this thread. */
  createVcpu(id: number): Vcpu {
    return new WasmVcpu(id, this.memory, this.options);
  }
  start(vcpu: Vcpu, start: VcpuStart): void {
    (vcpu as WasmVcpu).start(start);
  }
  /** Goes on from what `saveVcpu` gave. @throws RangeError */
  resume(vcpu: Vcpu, saved: Uint8Array): void {
    (vcpu as WasmVcpu).resume(saved);
  }
  run(vcpu: Vcpu): Exit {
    return (vcpu as WasmVcpu).run();
  }
  kick(vcpu: Vcpu): void {
    kickVcpu(this.memory, vcpu.id);
  }
  flushPhysmap(vcpu: Vcpu): void {
    const target = vcpu as WasmVcpu;
    target.machine.flushAll();
  }
  /** Instructions that a vcpu has executed. */
  instructionsOf(vcpu: Vcpu): number {
    return (vcpu as WasmVcpu).retired;
  }
}

/** The architectural state behind a vcpu of this engine; for tests and for saving. */
export const machineOf = (vcpu: Vcpu): Machine => (vcpu as WasmVcpu).machine;

/** How often each handler ran, most frequent first; only with `WasmEngineOptions.profile`. */
export function profileOf(vcpu: Vcpu): { sample: HandlerSample; count: number }[] {
  const { interpreter, machine } = vcpu as WasmVcpu;
  return [...interpreter.samples]
    .map(([id, sample]) => ({ sample, count: machine.get32(PROFILE_OFFSET + id * 4) >>> 0 }))
    .sort((a, b) => b.count - a.count);
}
