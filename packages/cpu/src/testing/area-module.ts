/** Functions of the engine by themselves, over one vcpu's area and nothing else. */
import { ModuleBuilder } from "@xenoserver/wasm";
import { VCPU_AREA_BYTES, vcpuArea } from "../state/layout.ts";

/** Address of the area. */
export const VB = vcpuArea(0);
const PAGES = (VB + VCPU_AREA_BYTES) / 0x10000;

/** A module to define them in. */
export function areaModule(): ModuleBuilder {
  const m = new ModuleBuilder();
  m.importMemory("env", "memory", { minPages: PAGES, maxPages: PAGES });
  return m;
}

/** @returns what the module exports, as the test names it, and its memory, which is zero */
export function instantiated<T>(m: ModuleBuilder): { readonly functions: T; readonly words: Int32Array } {
  const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(m.finish()), { env: { memory } });
  return { functions: exports as T, words: new Int32Array(memory.buffer) };
}
