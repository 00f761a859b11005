export * from "./engine.ts";
export * from "./memory/domain-memory.ts";
export * from "./memory/guest-memory.ts";
