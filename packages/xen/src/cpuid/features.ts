/** The processor features that a domain is offered: exactly these, on every engine and every host. */

const bits = (...numbers: number[]): number => numbers.reduce((mask, n) => (mask | (1 << n)) >>> 0, 0);

/** CPUID 1 EDX: fpu pse tsc msr pae cx8 apic sep pge cmov pat pse36 clflush mmx fxsr sse sse2. */
export const LEAF_1_EDX = bits(0, 3, 4, 5, 6, 8, 9, 11, 13, 15, 16, 17, 19, 23, 24, 25, 26);

/**
 * CPUID 1 ECX: sse3 pclmulqdq ssse3 cx16 pcid sse4.1 sse4.2 x2apic popcnt tsc_deadline aes xsave rdrand hypervisor.
 * OSXSAVE (27) mirrors CR4 and is the engine's to add.
 */
export const LEAF_1_ECX = bits(0, 1, 9, 13, 17, 19, 20, 21, 23, 24, 25, 26, 30, 31);

/** CPUID 7.0 EBX: fsgsbase smep erms smap. */
export const LEAF_7_EBX = bits(0, 7, 9, 20);

/** CPUID 0x80000001 EDX: syscall nx pdpe1gb rdtscp lm. */
export const LEAF_80000001_EDX = bits(11, 20, 26, 27, 29);
/** CPUID 0x80000001 ECX: lahf_lm. */
export const LEAF_80000001_ECX = bits(0);
/** CPUID 0x80000007 EDX: invariant TSC. */
export const LEAF_80000007_EDX = bits(8);
/** CPUID 6 EAX: arat. */
export const LEAF_6_EAX = bits(2);

/** State components of XCR0: x87 and SSE. */
export const XCR0_SUPPORTED = 3;
/** Legacy area and header of an XSAVE image. */
export const XSAVE_BYTES = 576;
