/** A thread that runs vcpu 0 of a domain's memory until it is told to stop. */
import { isMainThread, workerData } from "node:worker_threads";
import { DomainMemory, type DomainMemoryHandle } from "../memory/domain-memory.ts";
import { machineOf, WasmEngine } from "../wasm-engine.ts";

export interface WriterThreadData {
  readonly memory: DomainMemoryHandle;
  /** Word 0: 1 once the guest runs, 2 to stop it, 3 when it has stopped. */
  readonly state: SharedArrayBuffer;
}

if (!isMainThread) {
  const { memory: handle, state: shared } = workerData as WriterThreadData;
  const state = new Int32Array(shared);
  const engine = new WasmEngine(DomainMemory.attach(handle), { cpuid: [], nowNs: () => performance.now() * 1e6 });
  const vcpu = engine.createVcpu(0);
  machineOf(vcpu).updateMode();
  Atomics.compareExchange(state, 0, 0, 1);
  Atomics.notify(state, 0);
  while (Atomics.load(state, 0) === 1) engine.run(vcpu);
  Atomics.store(state, 0, 3);
  Atomics.notify(state, 0);
}
