/** Entry of a thread that compiles hot code, of one domain or several. */
import { setFlagsFromString } from "node:v8";
import { isMainThread, parentPort } from "node:worker_threads";
import { DomainMemory } from "@xenoserver/cpu";
import { RegionCompiler, type RegionJob } from "@xenoserver/cpu/jit/region-compiler.ts";
import { fetchFrames } from "../snapshot/frame-source.ts";
import type { RegionMessage, RegionThreadData } from "./region-channel.ts";

if (!isMainThread) {
  // A function's first call would otherwise compile it on the vcpu's thread.
  setFlagsFromString("--no-wasm-lazy-compilation");
  const served = new Map<number, RegionThreadData>();
  parentPort!.on("message", (message: RegionMessage) => {
    if (message.kind === "add") {
      served.set(message.domain, message.data);
      serve(message.data);
    } else {
      for (const { port } of served.get(message.domain)?.ends ?? []) port.close();
      served.delete(message.domain);
    }
  });
}

function serve({ memory: handle, ends, frames }: RegionThreadData): void {
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
