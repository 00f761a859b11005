export * from "./assembler.ts";
export * from "./elf.ts";
export type { Encoding, OpcodeMap } from "./emitter.ts";
export * from "./operands.ts";
