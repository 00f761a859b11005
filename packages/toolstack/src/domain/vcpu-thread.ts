/** Entry of a thread that runs a vcpu until its domain shuts down, or several of different domains in turn. */
import { isMainThread, type MessagePort, parentPort } from "node:worker_threads";
import { DomainMemory, type Exit, type Vcpu, type VcpuEngine } from "@xenoserver/cpu";
import { WasmEngine } from "@xenoserver/cpu/wasm-engine.ts";
import {
  cpuidLeaves,
  Domain,
  HostClock,
  type NextTurn,
  runVcpu,
  runVcpuInTurn,
  type VcpuLoopConfig,
} from "@xenoserver/xen";
import { openYield } from "@xenoserver/xen/host/processor.ts";
import { fetchFrames } from "../snapshot/frame-source.ts";
import { compileAtOnce, RegionClient } from "./region-channel.ts";
import { threadId } from "./thread-id.ts";
import type { ThreadMessage, VcpuBegin, VcpuMessage, VcpuThreadData } from "./vcpu-messages.ts";

let coming: Int32Array | undefined;
/** A domain that does not come to begin is not waited for longer. */
const COMING_MS = 1000;

/** Those that are to begin come first. */
const nextTurn: NextTurn = (hadShare) => {
  const count = coming === undefined ? 0 : Atomics.load(coming, 0);
  if (count > 0) return begun(count);
  return hadShare ? new Promise((resolve) => setImmediate(resolve)) : undefined;
};
async function begun(count: number): Promise<void> {
  await Atomics.waitAsync(coming!, 0, count, COMING_MS).value;
}

type Tell = (message: VcpuMessage) => void;
/** What a vcpu's loop needs, and who tells what came of it. */
type Run = (begin: VcpuBegin) => { readonly config: VcpuLoopConfig; end(): void };

// Whoever loads this elsewhere wants it compiled, not run.
if (!isMainThread) {
  compileAtOnce();
  listen(parentPort!);
}

function listen(parent: MessagePort): void {
  parent.on("message", (message: ThreadMessage) => {
    if (message.kind === "turns") coming = message.coming;
    else if (message.kind === "warm") {
      prepare({ vcpuId: 0, nrVcpus: 1, domid: 0, memory: message.memory, engine: {} }, () => {});
      parent.postMessage({ kind: "warm" });
    } else if (message.line === undefined) {
      parent.removeAllListeners("message");
      serveAlone(message.data, parent);
    } else serveInTurn(message.data, message.line);
  });
}

function serveAlone(data: VcpuThreadData, line: MessagePort): void {
  const tell: Tell = (message) => line.postMessage(message);
  tell({ kind: "thread", tid: threadId() });
  const run = prepare(data, tell);
  line.once("message", (begin: VcpuBegin) => {
    const { config, end } = run(begin);
    const yieldProcessor = openYield();
    runVcpu({ ...config, ...(yieldProcessor && { yieldProcessor }) });
    end();
  });
}

function serveInTurn(data: VcpuThreadData, line: MessagePort): void {
  const tell: Tell = (message) => line.postMessage(message);
  // What goes wrong with one is not to be the others' end.
  const guarded = async (work: () => Promise<void> | void): Promise<void> => {
    try {
      await work();
    } catch (error) {
      tell({ kind: "failed", reason: error instanceof Error ? String(error.stack) : String(error) });
    }
  };
  void guarded(() => {
    const run = prepare(data, tell);
    line.once("message", (message: VcpuBegin) =>
      guarded(async () => {
        const { config, end } = run(message);
        await runVcpuInTurn(config, nextTurn);
        end();
      }).finally(() => line.close()),
    );
  });
}

/** Makes all that does not need the domain. @returns what makes the rest when there is one */
function prepare(data: VcpuThreadData, tell: Tell): Run {
  const { vcpuId, nrVcpus, domid, memory: handle, engine: choice, translations } = data;
  const memory = DomainMemory.attach(handle);
  const cpuid = cpuidLeaves({ domid, vcpuId, nrVcpus });
  const regions = data.regions && new RegionClient(data.regions);
  const modules = translations && regions?.enginesIn(translations);
  const service = { ...(regions && { regions }), ...(modules && { modules }) };
  let clock: HostClock | undefined;
  const engine = new WasmEngine(memory, { cpuid, nowNs: () => clock!.nowNs(), ...choice, ...service });
  const vcpu = engine.createVcpu(vcpuId);
  return ({ control, start, saved, frames }) => {
    if (frames !== undefined) fetchFrames(memory, frames);
    const domain = Domain.attach(control, memory);
    clock = new HostClock(domain);
    if (start !== undefined) engine.start(vcpu, start);
    if (saved !== undefined) engine.resume(vcpu, saved);
    return inDomain(engine, vcpu, domain, clock, tell);
  };
}

function inDomain(engine: WasmEngine, vcpu: Vcpu, domain: Domain, clock: HostClock, tell: Tell): ReturnType<Run> {
  const log = (message: string): void => tell({ kind: "log", message });
  const exits: Record<string, number> = {};
  let run = (target: Vcpu): Exit => {
    run = (next) => engine.run(next);
    const exit = engine.run(target);
    tell({ kind: "ran", atMs: performance.timeOrigin + performance.now() });
    return exit;
  };
  const counting: VcpuEngine = {
    run(target: Vcpu) {
      const exit = run(target);
      exits[exit.kind] = (exits[exit.kind] ?? 0) + 1;
      return exit;
    },
    kick: (target) => engine.kick(target),
    flushPhysmap: (target) => engine.flushPhysmap(target),
  };
  const config: VcpuLoopConfig = {
    engine: counting,
    vcpu,
    domain,
    clock,
    log,
    debugConsole: (text) => log(`guest: ${text.trimEnd()}`),
    start: (target, at) => engine.start(target, at),
  };
  const end = (): void =>
    tell({ kind: "end", instructions: engine.instructionsOf(vcpu), exits, registers: vcpu.describe() });
  return { config, end };
}
