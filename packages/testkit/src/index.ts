export * from "./asm/index.ts";
export * from "./guests/index.ts";
export * from "./oracle/index.ts";
