/**
 * The console page: `in` is host to guest, `out` is guest to host.
 * @see xen/include/public/io/console.h
 */
export const Xencons = {
  in: 0,
  inBytes: 1024,
  out: 1024,
  outBytes: 2048,
  in_cons: 3072,
  in_prod: 3076,
  out_cons: 3080,
  out_prod: 3084,
} as const;
