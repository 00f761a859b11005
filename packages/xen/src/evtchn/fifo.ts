/** The FIFO ABI. */
import type { Domain } from "../domain/domain.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";

export function setPendingFifo(_domain: Domain, _port: number, _record: VcpuRecord): boolean {
  return false;
}
export function clearPendingFifo(_domain: Domain, _port: number): void {}
export function unmaskFifo(_domain: Domain, _port: number): void {}
export function isPendingFifo(_domain: Domain, _port: number): boolean {
  return false;
}
export function isMaskedFifo(_domain: Domain, _port: number): boolean {
  return true;
}
