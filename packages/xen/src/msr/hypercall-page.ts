/** The page of hypercall stubs for guests that do not issue VMCALL themselves. */
import { PAGE_BYTES } from "@xenoserver/cpu";
import { HYPERCALL_IRET, HYPERCALL_PAGE_STUBS, HYPERCALL_STUB_BYTES } from "../abi/xen.ts";

/**
 * The 4096 bytes: for each number `mov $number, %eax; vmcall; ret`, which is the same code in 32 and 64 bits.
 * The rest is `int3`, so that a stray jump is seen.
 */
export function hypercallPage(): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES).fill(0xcc);
  for (let number = 0; number < HYPERCALL_PAGE_STUBS; number++) {
    const ud2 = [0x0f, 0x0b];
    const stub = number === HYPERCALL_IRET ? ud2 : [0xb8, number, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3];
    page.set(stub, number * HYPERCALL_STUB_BYTES);
  }
  return page;
}
