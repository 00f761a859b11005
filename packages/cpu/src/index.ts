export * from "./engine.ts";
export * from "./memory/domain-memory.ts";
export * from "./memory/guest-memory.ts";
export { PHYSICAL_BITS } from "./state/layout.ts";
export * from "./wasm-engine.ts";
export type { WasmEngineOptions } from "./wasm-vcpu.ts";
