/** xl.cfg files. */
export { copyOf, copyOfSpec, macsIn, type RenewedVif, renewedVifs } from "./copy.ts";
export { ALL_CPUS, formatCpuList, parseCpuList, resolveCpuList } from "./cpus.ts";
export { DISK_FORMATS, type DiskFormat, type DiskSpec, describeDisk, parseDisk } from "./disk.ts";
export {
  type Action,
  CAP,
  CMDLINE_MAX_BYTES,
  type DomainConfig,
  domainConfig,
  MEMORY_MIB,
  memoryAtStartMib,
  pinned,
  SHIM_CMDLINE,
  VCPUS,
  vcpusAtStart,
  WEIGHT,
  weighed,
} from "./domain-config.ts";
export { SUPPORTED_KEYS } from "./keys.ts";
export { describeP9, type P9Spec, parseP9 } from "./p9.ts";
export { configOf, type DomainSpec, type SpecValue, specOf, specOfConfig } from "./spec.ts";
export {
  applyOverrides,
  type CfgAtom,
  type CfgList,
  type CfgSetting,
  type CfgValue,
  ConfigError,
  parseCfg,
} from "./syntax.ts";
export { describeVif, isShared, type NetworkSpec, parseVif, readVifs, type VifSpec } from "./vif.ts";
