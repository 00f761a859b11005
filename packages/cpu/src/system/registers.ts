/** Bits of control registers and of segments' cached descriptors, and numbers of segments beyond those of `Seg`. */

export const Cr0 = {
  pe: 1,
  mp: 2,
  em: 4,
  ts: 8,
  et: 16,
  ne: 32,
  wp: 0x10000,
  am: 0x40000,
  nw: 0x20000000,
  cd: 0x40000000,
  pg: 0x80000000,
} as const;
export const Cr4 = {
  tsd: 4,
  de: 8,
  pse: 16,
  pae: 32,
  mce: 64,
  pge: 128,
  pce: 256,
  osfxsr: 512,
  osxmmexcpt: 1024,
  umip: 2048,
  fsgsbase: 1 << 16,
  pcide: 1 << 17,
  osxsave: 1 << 18,
  smep: 1 << 20,
  smap: 1 << 21,
} as const;
export const Efer = { sce: 1, lme: 0x100, lma: 0x400, nxe: 0x800, svme: 0x1000, ffxsr: 0x4000 } as const;

/** Bits of a cached segment descriptor, as in bytes 5 and 6 of the descriptor. */
export const Attr = {
  accessed: 1,
  rw: 2,
  conforming: 4,
  expandDown: 4,
  code: 8,
  s: 0x10,
  dplShift: 5,
  present: 0x80,
  l: 0x200,
  db: 0x400,
  g: 0x800,
} as const;
export const TR = 6;
export const LDTR = 7;
