/**
 * The frame of a test guest: a PVH ELF, the way into the wanted mode, hypercalls, and words for saying things.
 *
 * Physical memory (32 MiB are enough), all identity-mapped: image from 16 MiB, then the areas of `Area` as zero bytes behind it. The guest
 * starts in 32-bit protected mode with EBX = `hvm_start_info`, as PVH has it, and runs with interrupts off.
 *
 * @see xen/include/public/arch-x86/hvm/start_info.h, arch-x86/cpuid.h
 */
import {
  Assembler,
  addressOf,
  al,
  cr,
  ds,
  dword,
  eax,
  ebp,
  ebx,
  ecx,
  edi,
  edx,
  es,
  esi,
  esp,
  type Immediate,
  type Mem,
  ptr,
  qword,
  type Register,
  r8,
  r9,
  r10,
  rdi,
  rdx,
  register,
  rsi,
  rsp,
  ss,
  writeElf,
} from "../asm/index.ts";

/** High enough that arrays written from a page number mistaken for an address end before it. */
export const LOAD_ADDRESS = 0x100_0000;
/** Physical addresses of what the guest uses besides its image. */
export const Area = {
  hypercallPage: 0x101_0000,
  stackTop: 0x101_8000,
  /** PML4, PDPT and four page directories. */
  pageTables: 0x101_8000,
  /** The guest's own variables: no pointer that a guest hands out at random leads here. */
  variables: 0x101_e000,
  sharedInfo: 0x101_f000,
  /** 64 KiB for structures that hypercalls take. */
  scratch: 0x102_0000,
  end: 0x103_0000,
} as const;

/** Hypercall numbers and sub-operations that the guests use. @see xen/include/public/xen.h and its neighbours */
export const Hypercall = {
  memory_op: 12,
  multicall: 13,
  console_io: 18,
  vcpu_op: 24,
  sched_op: 29,
  event_channel_op: 32,
  hvm_op: 34,
} as const;
export const ShutdownReason = { poweroff: 0, reboot: 1, suspend: 2, crash: 3, watchdog: 4 } as const;
const SCHEDOP_shutdown = 2;
const DEBUG_PORT = 0xe9;
const STUB_BYTES = 32;
/** In a stub, behind `mov eax, imm32`. */
const STUB_INSTRUCTION = 5;
const CR0_PG = 0x8000_0000;
const CR4_PAE = 0x20;
const MSR_EFER = 0xc000_0080;
const EFER_LME = 0x100;

export type GuestMode = 32 | 64;

/** An assembler for guests: registers by role, hypercalls, text. */
export class GuestAssembler extends Assembler {
  readonly guestMode: GuestMode;
  /** Registers of hypercall arguments, in order. */
  readonly args: readonly Register[];
  readonly #texts: string[] = [];

  constructor(mode: GuestMode, origin: number) {
    super({ mode, origin });
    this.guestMode = mode;
    this.args = mode === 64 ? [rdi, rsi, rdx, r10, r8, r9] : [ebx, ecx, edx, esi, edi, ebp];
  }

  /** The register of the encoding's number, as wide as the mode. */
  reg(num: number): Register {
    return register(num, this.guestMode);
  }
  /** A machine word in memory. */
  wordAt(at: Parameters<typeof dword>[0], disp = 0): Mem {
    return this.guestMode === 64 ? qword(at, disp) : dword(at, disp);
  }

  /** Makes a hypercall by its stub; the result comes in RAX. Arguments are loaded in order. */
  hypercall(number: number, ...values: (Immediate | Register)[]): this {
    values.forEach((value, i) => {
      if (value !== this.args[i]) this.mov(this.args[i], value);
    });
    return this.call(Area.hypercallPage + number * STUB_BYTES);
  }
  /** Makes the hypercall whose number is in RAX already. */
  hypercallInRax(): this {
    return this.call(Area.hypercallPage + STUB_INSTRUCTION);
  }

  /** Writes text to the debug port, byte by byte. Changes RAX, RSI. */
  say(text: string): this {
    return this.mov(this.reg(6), addressOf(this.#text(text))).call("guest.say");
  }
  /** Writes text by CONSOLEIO_write. Changes the argument registers and RAX. */
  sayByHypercall(text: string): this {
    return this.hypercall(Hypercall.console_io, 0, new TextEncoder().encode(text).length, addressOf(this.#text(text)));
  }
  /** Shuts the domain down; does not come back. */
  shutdown(reason: number): this {
    this.mov(eax, Area.scratch).mov(dword(this.reg(0)), reason);
    return this.hypercall(Hypercall.sched_op, SCHEDOP_shutdown, Area.scratch).ud2();
  }

  #text(text: string): string {
    const index = this.#texts.includes(text) ? this.#texts.indexOf(text) : this.#texts.push(text) - 1;
    return `guest.text${index}`;
  }
  /** Emits the subroutines and texts; called once, after the guest's own code. */
  finishGuest(): void {
    this.label("guest.say")
      .mov(al, { ...this.wordAt(this.reg(6)), bits: 8 })
      .test(al, al)
      .jcc("z", "guest.said");
    this.out(al, DEBUG_PORT).add(this.reg(6), 1).jmp("guest.say").label("guest.said").ret();
    this.#texts.forEach((text, i) => {
      this.label(`guest.text${i}`).db(text, 0);
    });
  }
}

/**
 * Makes a PVH kernel of the code that `write` emits.
 * @param mode  64: the guest enters long mode first, with 4 GiB mapped by 2 MiB pages
 * @returns ELF64 bytes whose PVH note names the 32-bit entry
 */
export function buildGuest(mode: GuestMode, write: (a: GuestAssembler) => unknown): Uint8Array {
  const start = new Assembler({ mode: 32, origin: LOAD_ADDRESS });
  start.label("start").cli().cld().mov(esp, Area.stackTop);
  emitHypercallPage(start);
  if (mode === 64) emitLongMode(start);
  const main = new GuestAssembler(mode, start.label("main").address("main"));
  if (mode === 64) main.mov(eax, 0x10).mov(ds, eax).mov(es, eax).mov(ss, eax).mov(rsp, Area.stackTop);
  write(main);
  main.finishGuest();
  const [head, body] = [start.bytes(), main.bytes()];
  const image = new Uint8Array(head.length + body.length);
  image.set(head);
  image.set(body, head.length);
  const limit = Area.hypercallPage - LOAD_ADDRESS;
  if (image.length > limit) throw new Error(`guest: image of ${image.length} bytes, expected ≤ ${limit}`);
  const bssBytes = Area.end - LOAD_ADDRESS - image.length;
  return writeElf({ image, loadAddress: LOAD_ADDRESS, entry: LOAD_ADDRESS, bssBytes, pvhEntry: LOAD_ADDRESS });
}

/** Finds Xen's CPUID leaves and has the hypercall page filled in. Without Xen the page stays zero. */
function emitHypercallPage(a: Assembler): void {
  a.mov(edi, 0x4000_0000);
  a.label("leaf").mov(eax, edi).cpuid();
  a.cmp(ebx, 0x566e_6558)
    .jcc("nz", "leaf.next")
    .cmp(ecx, 0x65584d4d)
    .jcc("nz", "leaf.next")
    .cmp(edx, 0x4d4d_566e)
    .jcc("z", "leaf.found");
  a.label("leaf.next").add(edi, 0x100).cmp(edi, 0x4001_0000).jcc("b", "leaf").jmp("leaf.done");
  a.label("leaf.found").lea(eax, ptr(edi, 2)).cpuid();
  a.mov(ecx, ebx).mov(eax, Area.hypercallPage).xor(edx, edx).wrmsr();
  a.label("leaf.done");
}

/** Identity-maps 4 GiB with 2 MiB pages and jumps to 64-bit code at "main". */
function emitLongMode(a: Assembler): void {
  const [pml4, pdpt, directories] = [0, 1, 2].map((n) => Area.pageTables + 4096 * n);
  a.mov(dword(pml4), pdpt + 3);
  for (let i = 0; i < 4; i++) a.mov(dword(pdpt + 8 * i), directories + 4096 * i + 3);
  a.mov(edi, directories).mov(eax, 0x83).mov(ecx, 2048);
  a.label("map").mov(dword(edi), eax).mov(dword(edi, 4), 0).add(eax, 0x20_0000).add(edi, 8).dec(ecx).jcc("nz", "map");
  a.mov(eax, pml4).mov(cr(3), eax).mov(eax, cr(4)).or(eax, CR4_PAE).mov(cr(4), eax);
  a.mov(ecx, MSR_EFER).rdmsr().or(eax, EFER_LME).wrmsr();
  a.mov(eax, cr(0)).or(eax, CR0_PG).mov(cr(0), eax);
  a.lgdt(ptr("gdt.descriptor")).jmpFar(8, addressOf("main"));
  a.align(8).label("gdt").dq(0, 0x00af_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn);
  a.label("gdt.descriptor").dw(23).dd(addressOf("gdt")).align(16);
}
