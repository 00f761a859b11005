export * from "./case.ts";
export { decodeBatch, decodeResults, encodeBatch, encodeResults, normaliseFx } from "./codec.ts";
export * from "./compare.ts";
export * from "./describe.ts";
export * from "./encoding-spec.ts";
export * from "./fuzz.ts";
export { excludedSpecs, Generator, type GeneratorOptions } from "./generate.ts";
export { HostCpu } from "./host.ts";
export * from "./known/index.ts";
export * from "./prng.ts";
export * from "./shrink.ts";
export * from "./undefined-flags.ts";
export {
  loadRegressions,
  loadVectors,
  type Regression,
  recordVectors,
  saveRegression,
  type Vector as TestVector,
} from "./vectors.ts";
