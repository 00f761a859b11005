export * from "./asm/index.ts";
export * from "./oracle/index.ts";
