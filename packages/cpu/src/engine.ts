/**
 * The seam between a CPU engine and whoever drives it.
 *
 * An engine runs one virtual CPU until something happens that it does not decide itself; it then returns an `Exit`.
 * The WebAssembly engine and a hardware engine both implement `VcpuEngine`; the hypervisor cannot tell which it has.
 */

/** A guest-physical address in bytes, 0 ≤ gpa < 2^52. */
export type Gpa = number & { readonly __brand: "Gpa" };

/**
 * A canonical guest-linear address as a *signed* number: 0xffff8880_00000000 is -0x7780_00000000.
 * Every 48-bit canonical address is exact in a double this way, so no BigInt is needed.
 */
export type Gva = number & { readonly __brand: "Gva" };

/** A guest frame number: gpa / 4096. */
export type Gfn = number & { readonly __brand: "Gfn" };

export const PAGE_SHIFT = 12;
export const PAGE_BYTES = 4096;

/** Numbers of the general registers, in the order of the x86 encoding. */
export const Gpr = {
  rax: 0,
  rcx: 1,
  rdx: 2,
  rbx: 3,
  rsp: 4,
  rbp: 5,
  rsi: 6,
  rdi: 7,
  r8: 8,
  r9: 9,
  r10: 10,
  r11: 11,
  r12: 12,
  r13: 13,
  r14: 14,
  r15: 15,
} as const;
export type Gpr = (typeof Gpr)[keyof typeof Gpr];

/**
 * Why `run` came back.
 *
 * - `hypercall`  VMCALL/VMMCALL; RIP is already behind it, the caller puts the result into RAX.
 * - `msr-read`   an MSR the engine does not own; answer with `completeMsrRead` or `injectGp`. RIP is behind the instruction.
 * - `msr-write`  likewise; the value is given as two halves. Refuse with `injectGp`.
 * - `pio-in`     port input of `sizeBytes`; answer with `completePortIn`.
 * - `pio-out`    port output.
 * - `mmio-read`  a load from a gpa with no frame; answer with `completeMmioRead`, then run again.
 * - `mmio-write` a store to a gpa with no frame; already retired.
 * - `halt`       HLT with interrupts enabled and none pending. RIP is behind the instruction.
 * - `preempted`  the tick budget is spent, or `kick` was called. Nothing to complete.
 * - `shutdown`   triple fault, or HLT with interrupts disabled for ever.
 * - `fault`      the engine met something that it cannot do; the message names it.
 */
export type Exit =
  | { readonly kind: "hypercall" }
  | { readonly kind: "msr-read"; readonly index: number }
  | { readonly kind: "msr-write"; readonly index: number; readonly lo: number; readonly hi: number }
  | { readonly kind: "pio-in"; readonly port: number; readonly sizeBytes: 1 | 2 | 4 }
  | { readonly kind: "pio-out"; readonly port: number; readonly sizeBytes: 1 | 2 | 4; readonly value: number }
  | { readonly kind: "mmio-read"; readonly gpa: Gpa; readonly sizeBytes: number }
  | {
      readonly kind: "mmio-write";
      readonly gpa: Gpa;
      readonly sizeBytes: number;
      readonly lo: number;
      readonly hi: number;
    }
  | { readonly kind: "halt" }
  | { readonly kind: "preempted" }
  | { readonly kind: "shutdown"; readonly reason: "triple-fault" | "halted-with-interrupts-off" }
  | { readonly kind: "fault"; readonly message: string };

/** Where external interrupts come from: the local APIC of this vcpu, or a vector that the hypervisor wants delivered. */
export interface InterruptSource {
  /** True if some vector could be delivered now were RFLAGS.IF set. Called at every tick and when IF becomes 1; must be cheap. */
  hasPending(): boolean;
  /** Takes the highest vector for delivery, or −1. Called only when it will be delivered at once. */
  acknowledge(): number;
  /** True if a non-maskable interrupt waits. */
  readonly hasNmi?: boolean;
  /** Takes it: it is delivered at once. */
  takeNmi?(): void;
}

/** The architectural view of one vcpu that the hypervisor uses while the vcpu is not running. */
export interface Vcpu {
  readonly id: number;
  /** Low and high halves of a general register, as unsigned 32-bit numbers. */
  gprLo(r: Gpr): number;
  gprHi(r: Gpr): number;
  /** Sets a general register from two halves. */
  setGpr(r: Gpr, lo: number, hi: number): void;
  /** The register as a number; exact up to 2^53, otherwise rounded. */
  gprNumber(r: Gpr): number;
  /** The register as a linear address, or undefined if it is not canonical. */
  gprGva(r: Gpr): Gva | undefined;
  /** 0 in the kernel, 3 in user mode. */
  readonly cpl: number;
  /** True in 64-bit mode (CS.L), false in compatibility and legacy mode. */
  readonly is64: boolean;
  /** RFLAGS.IF. */
  readonly interruptsEnabled: boolean;

  /** Copies guest-linear bytes through the vcpu's page tables, as the kernel would. False if any byte is not mapped. */
  readLinear(at: Gva, into: Uint8Array): boolean;
  /** As readLinear, but stores. Nothing is written if any byte is not mapped writable. */
  writeLinear(at: Gva, from: Uint8Array): boolean;

  completeMsrRead(lo: number, hi: number): void;
  completePortIn(value: number): void;
  completeMmioRead(lo: number, hi: number): void;
  /** Makes the instruction that exited raise #GP(0) instead; valid after msr-read and msr-write only. */
  injectGp(): void;

  setInterruptSource(source: InterruptSource): void;
  /** True if the guest is further than the exits that were returned: they must be handled before the vcpu's state is looked at. */
  readonly hasExits?: boolean;
  /** Registers, segments, control registers and flags as text, for a crash report. */
  describe(): string;
}

export interface VcpuEngine {
  /** Runs until an exit. Never throws for anything a guest does. */
  run(vcpu: Vcpu): Exit;
  /** Callable from any thread: the next exit of the running vcpu comes within about 100 µs. */
  kick(vcpu: Vcpu): void;
  /** Drops cached translations after the guest-physical map changed. */
  flushPhysmap(vcpu: Vcpu): void;
}

/** Registers a vcpu starts with; what is not named is zero or the reset value. */
export interface VcpuStart {
  /** "protected": flat 32-bit as PVH asks (CR0 = 0x11, EFLAGS = 2); "real": start at `entry` as after a SIPI, CS base = entry, IP = 0. */
  readonly mode: "protected" | "real";
  readonly entry: Gpa;
  readonly rbx: number;
}

/** One CPUID answer. The domain owns the table; the engine only looks it up. */
export interface CpuidLeaf {
  readonly leaf: number;
  /** Undefined: the same for every subleaf. */
  readonly subleaf?: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}
