/**
 * What CPUID answers in a domain.
 *
 * The vendor is Intel, because Linux then learns its CPU frequency from leaf 0x16 instead of timing a PIT that is not
 * there, and asks for fewer vendor MSRs. The model is an in-order Atom (family 6, model 0x36): the one description of
 * a 64-bit processor for which a kernel applies no work-arounds for speculative execution. Page-table isolation and
 * retpolines would cost a translated guest a lot and protect nothing, for speculation happens in the host's code, not
 * along the guest's.
 */
import type { CpuidLeaf } from "@xenoserver/cpu";
import {
  XEN_CPUID_FIRST_LEAF,
  XEN_CPUID_MAX_LEAF,
  XEN_CPUID_SIGNATURE_EBX,
  XEN_CPUID_SIGNATURE_ECX,
  XEN_CPUID_SIGNATURE_EDX,
  XEN_HVM_CPUID_DOMID_PRESENT,
  XEN_HVM_CPUID_VCPU_ID_PRESENT,
  XEN_HYPERCALL_PAGE_MSR,
} from "../abi/cpuid.ts";
import { XEN_MAJOR, XEN_MINOR } from "../abi/version.ts";
import { apicIdOf } from "../apic/icr.ts";
import { TSC_KHZ } from "../time/clock.ts";
import {
  LEAF_1_ECX,
  LEAF_1_EDX,
  LEAF_6_EAX,
  LEAF_7_EBX,
  LEAF_80000001_ECX,
  LEAF_80000001_EDX,
  LEAF_80000007_EDX,
  XCR0_SUPPORTED,
  XSAVE_BYTES,
} from "./features.ts";

const FAMILY = 6;
const MODEL = 0x36;
const STEPPING = 1;
export const PHYSICAL_ADDRESS_BITS = 39;
const LINEAR_ADDRESS_BITS = 48;
const CLFLUSH_BYTES = 64;
const BRAND = "XenoServer virtual CPU";
const MAX_BASIC_LEAF = 0x16;
const MAX_EXTENDED_LEAF = 0x80000008;

export interface CpuidConfig {
  readonly domid: number;
  readonly vcpuId: number;
  readonly nrVcpus: number;
}

type Registers = readonly [eax: number, ebx: number, ecx: number, edx: number];

const leaf = (number: number, [eax, ebx, ecx, edx]: Registers, subleaf?: number): CpuidLeaf => {
  const answer = { leaf: number, eax: eax >>> 0, ebx: ebx >>> 0, ecx: ecx >>> 0, edx: edx >>> 0 };
  return subleaf === undefined ? answer : { ...answer, subleaf };
};

/**
 * The table of one vcpu. A leaf that is not in it reads as zero.
 * Where an entry names a subleaf, the leaf's other subleaves read as zero.
 */
export function cpuidLeaves(config: CpuidConfig): CpuidLeaf[] {
  return [...basicLeaves(config), ...topologyLeaves(config), ...xenLeaves(config), ...extendedLeaves()];
}

function basicLeaves({ vcpuId, nrVcpus }: CpuidConfig): CpuidLeaf[] {
  const signature = (((MODEL >> 4) << 16) | (FAMILY << 8) | ((MODEL & 15) << 4) | STEPPING) >>> 0;
  const apicId = apicIdOf(vcpuId);
  const misc = (apicId << 24) | (Math.min(255, nrVcpus * 2) << 16) | ((CLFLUSH_BYTES / 8) << 8);
  const mhz = TSC_KHZ / 1000;
  return [
    leaf(0, [MAX_BASIC_LEAF, ...vendorWords()]),
    leaf(1, [signature, misc, LEAF_1_ECX, LEAF_1_EDX]),
    // Descriptor 0xff: caches are in leaf 4.
    leaf(2, [0x0000_ff01, 0, 0, 0]),
    ...cacheLeaves(),
    leaf(6, [LEAF_6_EAX, 0, 0, 0]),
    leaf(7, [0, LEAF_7_EBX, 0, 0], 0),
    leaf(0xd, [XCR0_SUPPORTED, XSAVE_BYTES, XSAVE_BYTES, 0], 0),
    leaf(0xd, [0, 0, 0, 0], 1),
    // TSC / crystal clock = 1 / 1.
    leaf(0x15, [1, 1, TSC_KHZ * 1000, 0]),
    leaf(0x16, [mhz, mhz, 100, 0]),
  ];
}

function vendorWords(): [ebx: number, ecx: number, edx: number] {
  return [word("Genu"), word("ntel"), word("ineI")];
}

function word(text: string): number {
  return [...text].reduce((value, c, n) => (value | (c.charCodeAt(0) << (8 * n))) >>> 0, 0);
}

/** Sizes of an ordinary server core; guests tune copies and hash tables by them. */
function cacheLeaves(): CpuidLeaf[] {
  const cache = (type: number, level: number, ways: number, sets: number, subleaf: number): CpuidLeaf => {
    const selfInitializing = 1 << 8;
    const ebx = ((ways - 1) << 22) | (CLFLUSH_BYTES - 1);
    return leaf(4, [type | (level << 5) | selfInitializing, ebx, sets - 1, 0], subleaf);
  };
  return [cache(1, 1, 8, 64, 0), cache(2, 1, 8, 64, 1), cache(3, 2, 16, 1024, 2), leaf(4, [0, 0, 0, 0], 3)];
}

/** Leaf 0xb: one thread a core, APIC ids two apart, all cores in one package. */
function topologyLeaves({ vcpuId, nrVcpus }: CpuidConfig): CpuidLeaf[] {
  const apicId = apicIdOf(vcpuId);
  const packageShift = Math.max(1, Math.ceil(Math.log2(nrVcpus * 2)));
  return [
    leaf(0xb, [1, 1, 0x100, apicId], 0),
    leaf(0xb, [packageShift, nrVcpus, 0x201, apicId], 1),
    leaf(0xb, [0, 0, 2, apicId], 2),
  ];
}

function xenLeaves({ domid, vcpuId }: CpuidConfig): CpuidLeaf[] {
  const base = XEN_CPUID_FIRST_LEAF;
  const tscReliable = 1 << 1;
  const rdtscp = 1 << 2;
  return [
    leaf(base, [XEN_CPUID_MAX_LEAF, XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX]),
    leaf(base + 1, [(XEN_MAJOR << 16) | XEN_MINOR, 0, 0, 0]),
    leaf(base + 2, [1, XEN_HYPERCALL_PAGE_MSR, 0, 0]),
    leaf(base + 3, [tscReliable | rdtscp, 0, TSC_KHZ, 0], 0),
    leaf(base + 3, [0, 0, 0x80000000, 1], 1),
    leaf(base + 3, [TSC_KHZ, 0, 0, 0], 2),
    // Without the upcall-vector bit Linux takes the callback vector, which costs no APIC EOI per event.
    leaf(base + 4, [XEN_HVM_CPUID_VCPU_ID_PRESENT | XEN_HVM_CPUID_DOMID_PRESENT, vcpuId, domid, 0], 0),
    leaf(base + 5, [0, PHYSICAL_ADDRESS_BITS, 0, 0], 0),
  ];
}

function extendedLeaves(): CpuidLeaf[] {
  const brand = BRAND.padEnd(48, "\0");
  const brandWords = Array.from({ length: 12 }, (_, n) => word(brand.slice(n * 4, n * 4 + 4)));
  const l2KiB = 1024;
  return [
    leaf(0x80000000, [MAX_EXTENDED_LEAF, 0, 0, 0]),
    leaf(0x80000001, [0, 0, LEAF_80000001_ECX, LEAF_80000001_EDX]),
    ...[0, 1, 2].map((n) => leaf(0x80000002 + n, brandWords.slice(n * 4, n * 4 + 4) as unknown as Registers)),
    leaf(0x80000006, [0, 0, (l2KiB << 16) | (6 << 12) | CLFLUSH_BYTES, 0]),
    leaf(0x80000007, [0, 0, 0, LEAF_80000007_EDX]),
    leaf(0x80000008, [PHYSICAL_ADDRESS_BITS | (LINEAR_ADDRESS_BITS << 8), 0, 0, 0]),
  ];
}
