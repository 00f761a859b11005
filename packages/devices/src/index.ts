export * from "./block/index.ts";
export * from "./console/index.ts";
export * from "./net/index.ts";
export * from "./p9/index.ts";
export * from "./ring/index.ts";
export * from "./xenbus/index.ts";
