import { State, vcpuArea } from "../state/layout.ts";
import type { DomainMemory } from "./domain-memory.ts";

/** Ends the vcpu's current run at its next branch; from any thread that shares the memory. */
export function kickVcpu(memory: DomainMemory, id: number): void {
  Atomics.store(new Int32Array(memory.memory.buffer), (vcpuArea(id) + State.instructionLimit) >>> 2, 0);
}
