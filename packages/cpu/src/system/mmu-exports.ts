import type { MemoryLayout } from "../state/layout.ts";

/** What the engine's module gives to the host program. Addresses are passed as two halves. */
export interface MmuExports {
  /** (vb, lo, hi, size, access) → host address (perhaps the bounce buffer), 0 after a fault. */
  hostAddress(vb: number, lo: number, hi: number, size: number, access: number): number;
  commitBounce(vb: number, at: number): void;
  flushTlb(vb: number, keepGlobal: number): void;
  flushTlbPage(vb: number, va: bigint): void;
}

/** Addresses of 32 bits come out of WebAssembly as negative numbers from 2 GiB on, those of 64 go in as BigInts. */
export function withNumericAddresses(exports: MmuExports, { addressType }: MemoryLayout): MmuExports {
  const commit = exports.commitBounce as (vb: number, host: number | bigint) => void;
  return {
    hostAddress: (vb, lo, hi, size, access) => {
      const at = exports.hostAddress(vb, lo, hi, size, access);
      return at < 0 ? at + 2 ** 32 : at;
    },
    commitBounce: addressType === "i64" ? (vb, host) => commit(vb, BigInt(host)) : exports.commitBounce,
    flushTlb: exports.flushTlb,
    flushTlbPage: exports.flushTlbPage,
  };
}
