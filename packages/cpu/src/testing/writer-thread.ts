/** A thread that runs one vcpu of a domain's memory until it is told to stop, or the guest halts. */
import { isMainThread, workerData } from "node:worker_threads";
import { DomainMemory, type DomainMemoryHandle } from "../memory/domain-memory.ts";
import { machineOf, WasmEngine } from "../wasm-engine.ts";
import type { Translate } from "./bare-machine.ts";

export interface WriterThreadData {
  readonly memory: DomainMemoryHandle;
  /** 0 unless told. */
  readonly vcpuId?: number;
  readonly translate?: Translate;
  /** Word 0: 1 once the guest runs, 2 to stop it, 3 when it has stopped. */
  readonly state: SharedArrayBuffer;
}

if (!isMainThread) {
  const { memory: handle, state: shared, vcpuId = 0, translate = "hot" } = workerData as WriterThreadData;
  const state = new Int32Array(shared);
  const engine = new WasmEngine(DomainMemory.attach(handle), {
    cpuid: [],
    nowNs: () => performance.now() * 1e6,
    translate: translate === "wide" ? "always" : translate,
  });
  const vcpu = engine.createVcpu(vcpuId);
  machineOf(vcpu).updateMode();
  Atomics.compareExchange(state, 0, 0, 1);
  Atomics.notify(state, 0);
  while (Atomics.load(state, 0) === 1) {
    const exit = engine.run(vcpu);
    if (exit.kind === "halt" || exit.kind === "shutdown") break;
  }
  Atomics.store(state, 0, 3);
  Atomics.notify(state, 0);
}
