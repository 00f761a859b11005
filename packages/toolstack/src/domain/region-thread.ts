/** Entry of the thread that compiles hot code. */
import { setFlagsFromString } from "node:v8";
import { isMainThread, workerData } from "node:worker_threads";
import { DomainMemory } from "@xenoserver/cpu";
import { RegionCompiler, type RegionJob } from "@xenoserver/cpu/jit/region-compiler.ts";
import { fetchFrames } from "../snapshot/frame-source.ts";
import type { RegionThreadData } from "./region-channel.ts";

if (!isMainThread) serve(workerData as RegionThreadData);

function serve({ memory: handle, ends, frames }: RegionThreadData): void {
  // A function's first call would otherwise compile it on the vcpu's thread.
  setFlagsFromString("--no-wasm-lazy-compilation");
  const memory = DomainMemory.attach(handle);
  if (frames !== undefined) fetchFrames(memory, frames);
  const compiler = new RegionCompiler(memory);
  for (const { port, answers } of ends) {
    const count = new Int32Array(answers);
    port.on("message", (job: RegionJob) => {
      port.postMessage(compiler.compile(job));
      Atomics.add(count, 0, 1);
    });
  }
}
