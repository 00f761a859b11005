/**
 * What the other packages need at hand. The engine itself is `wasm-engine.ts`: whoever imports it loads the meaning of every
 * instruction, which only a vcpu's thread should have to hold.
 */
export * from "./engine.ts";
export type { AbsentFrames, FrameSource } from "./memory/absent-frames.ts";
export { DirtyLog } from "./memory/dirty-log.ts";
export * from "./memory/domain-memory.ts";
export * from "./memory/guest-memory.ts";
export * from "./memory/kick.ts";
export { PHYSICAL_BITS } from "./state/layout.ts";
export { saveVcpu } from "./state/saved-vcpu.ts";
export type { WasmEngineOptions } from "./wasm-vcpu.ts";
