export * from "./bytes.ts";
export * from "./fn.ts";
export * from "./module.ts";
export { OPERATORS, operator, TYPE_CODE, type ValType } from "./opcodes.ts";
export * from "./value.ts";
