/** @see xen/include/public/arch-x86/cpuid.h */
export const XEN_CPUID_FIRST_LEAF = 0x40000000;
export const XEN_CPUID_SIGNATURE_EBX = 0x566e6558;
export const XEN_CPUID_SIGNATURE_ECX = 0x65584d4d;
export const XEN_CPUID_SIGNATURE_EDX = 0x4d4d566e;
export const XEN_CPUID_MAX_LEAF = 0x40000005;

export const XEN_HVM_CPUID_VCPU_ID_PRESENT = 1 << 3;
export const XEN_HVM_CPUID_DOMID_PRESENT = 1 << 4;

/** The MSR that leaf +2 names: a guest writes the gfn where it wants its hypercall page. */
export const XEN_HYPERCALL_PAGE_MSR = 0x40000000;
