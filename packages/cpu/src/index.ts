export * from "./engine.ts";
export * from "./memory.ts";
