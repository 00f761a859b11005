/**
 * A vcpu's thread that was started before anybody knew for which domain. It takes as long to load its program as the main thread does for
 * its own, and both can do so at the same time.
 */
import { Worker } from "node:worker_threads";
import { programUrl } from "../program.ts";

// A program's entry and what it goes on with may be different copies of this module.
const EARLY = Symbol.for("xenoserver.earlyVcpu");
const shared = globalThis as { [EARLY]?: Worker | undefined };

/** A thread for a vcpu, which waits to be told for which; see vcpu-thread.ts. */
export const newVcpuWorker = (name: string): Worker =>
  new Worker(programUrl(new URL("./vcpu-thread.ts", import.meta.url)), { name });

/** To be called first of all by a process that will most likely have a domain. It does not keep the process from ending. */
export function startVcpuEarly(): void {
  shared[EARLY] ??= newVcpuWorker("vcpu0");
  shared[EARLY].unref();
}

/** A thread for a vcpu: the early one, if it is the first one's, and nobody has it. */
export function takeVcpuWorker(vcpuId: number): Worker {
  const early = vcpuId === 0 ? shared[EARLY] : undefined;
  if (early === undefined) return newVcpuWorker(`vcpu${vcpuId}`);
  shared[EARLY] = undefined;
  early.ref();
  return early;
}
