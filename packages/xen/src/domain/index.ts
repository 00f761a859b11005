export { Domain, type DomainConfig } from "./domain.ts";
export { BlockKind, Field, MAX_VCPUS, VcpuField, VcpuLife } from "./layout.ts";
export { VcpuRecord } from "./vcpu-record.ts";
