/**
 * The few instructions that Node's foreign functions lack. V8's calls take and give handles, which live as long as the native call
 * that they were made in: what passes one to another must happen within one call from JavaScript. x86-64, System V's calling convention.
 */

/**
 * A step of `Thunk.chain`, in words: addresses of the words that hold the function and four arguments, and of the one that the result goes
 * to; then whether the chain ends when that is 0.
 */
export const STEP_WORDS = 8;
export const Step = { function: 0, arguments: 1, result: 5, isNeeded: 6 } as const;
export const ARGUMENTS = 4;

/** Byte offsets of the functions below in `THUNKS`. */
export const Thunk = {
  /** (steps) → 0: calls one function after the other, until a step's first word is 0, or a result that is needed. */
  chain: 0,
  /** (address, offset) → the word there. */
  load: 0x60,
  /** Calls a `std::function` of one reference: its first word says where the reference goes, the second is a chain's steps. */
  invoke: 0x70,
  /** Manages such a `std::function`, whose two words are copied. */
  manage: 0x80,
  /** (word) → the same. */
  same: 0xa0,
} as const;

const CHAIN = [
  0x53, // push rbx
  ...[0x48, 0x89, 0xfb], // mov rbx, rdi
  ...[0x48, 0x8b, 0x03], // next: mov rax, [rbx]
  ...[0x48, 0x85, 0xc0], // test rax, rax
  ...[0x74, 0x3a], // jz end
  ...[0x48, 0x8b, 0x00], // mov rax, [rax]
  ...[0x48, 0x8b, 0x7b, 0x08, 0x48, 0x8b, 0x3f], // mov rdi, [rbx + 8]; mov rdi, [rdi]
  ...[0x48, 0x8b, 0x73, 0x10, 0x48, 0x8b, 0x36], // the same of rsi
  ...[0x48, 0x8b, 0x53, 0x18, 0x48, 0x8b, 0x12], // rdx
  ...[0x48, 0x8b, 0x4b, 0x20, 0x48, 0x8b, 0x09], // rcx
  ...[0xff, 0xd0], // call rax
  ...[0x48, 0x8b, 0x53, 0x28, 0x48, 0x89, 0x02], // mov rdx, [rbx + 40]; mov [rdx], rax
  ...[0x48, 0x85, 0xc0], // test rax, rax
  ...[0x75, 0x07], // jnz on
  ...[0x48, 0x83, 0x7b, 0x30, 0x00], // cmp qword [rbx + 48], 0
  ...[0x75, 0x06], // jne end
  ...[0x48, 0x83, 0xc3, 0x40], // on: add rbx, 64
  ...[0xeb, 0xbe], // jmp next
  ...[0x31, 0xc0, 0x5b, 0xc3], // end: xor eax, eax; pop rbx; ret
];
const LOAD = [
  ...[0x48, 0x8b, 0x04, 0x37], // mov rax, [rdi + rsi]
  0xc3, // ret
];
const INVOKE = [
  ...[0x48, 0x8b, 0x07], // mov rax, [rdi]
  ...[0x48, 0x89, 0x30], // mov [rax], rsi
  ...[0x48, 0x8b, 0x7f, 0x08], // mov rdi, [rdi + 8]
  ...[0xeb, 0x84], // jmp chain
];
const MANAGE = [
  ...[0x83, 0xfa, 0x02], // cmp edx, 2 (clone)
  ...[0x75, 0x0e], // jne end
  ...[0x48, 0x8b, 0x06, 0x48, 0x89, 0x07], // mov rax, [rsi]; mov [rdi], rax
  ...[0x48, 0x8b, 0x46, 0x08, 0x48, 0x89, 0x47, 0x08], // mov rax, [rsi + 8]; mov [rdi + 8], rax
  ...[0x31, 0xc0, 0xc3], // end: xor eax, eax; ret
];
const SAME = [
  ...[0x48, 0x89, 0xf8], // mov rax, rdi
  0xc3, // ret
];

/** All of them, as they lie in memory. */
export function thunks(): Uint8Array {
  const all = new Uint8Array(0x100);
  all.set(CHAIN, Thunk.chain);
  all.set(LOAD, Thunk.load);
  all.set(INVOKE, Thunk.invoke);
  all.set(MANAGE, Thunk.manage);
  all.set(SAME, Thunk.same);
  return all;
}
