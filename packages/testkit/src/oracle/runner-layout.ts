import { type Mem, qword } from "../asm/index.ts";

/** Where the runner lies: far from everything that a case's registers point to. */
export const RUNNER_BASE = 0x6b3d_4c00_0000;

/** Size of the program's image; the buffers follow it. */
export const IMAGE_BYTES = 0x4000;
const STACK_BYTES = 0x1_0000;
/** Room for the largest signal frame (AVX-512, AMX) several times over. */
export const SIGNAL_STACK_BYTES = 0x4_0000;
export const OUTPUT_BYTES = 0x40_0000;
/** The output is written when less than this is free: more than one result can take. */
export const OUTPUT_RESERVE_BYTES = 0x2_0000;

/** Buffers behind the image, as label and size in bytes; all multiples of 4096. */
export const BUFFERS: readonly (readonly [string, number])[] = [
  ["stack", STACK_BYTES],
  ["signalStack", SIGNAL_STACK_BYTES],
  ["initial", 0x1_0000],
  ["output", OUTPUT_BYTES],
];
export const BUFFERS_BYTES = BUFFERS.reduce((sum, [, bytes]) => sum + bytes, 0);
/** All of the runner: signals that interrupt it here did not interrupt a case. */
export const RUNNER_BYTES = IMAGE_BYTES + BUFFERS_BYTES;

/** The runner's variables, one quadword each. */
export const VARIABLES = [
  "hwcap2",
  "remaining",
  "serial",
  "tickSerial",
  "caseAt",
  "patchesAt",
  "fxAt",
  "outputUsed",
  "background",
  "codeAlias",
] as const;
export const variable = (name: (typeof VARIABLES)[number]): Mem => qword(`var.${name}`);

/** Signal numbers of Linux on x86. */
export const Signal = { ILL: 4, TRAP: 5, BUS: 7, FPE: 8, SEGV: 11, VTALRM: 26, SYS: 31 } as const;

/** Offsets in the ucontext that a handler gets, in bytes. */
const GREGS = 40;
export const Ucontext = {
  /** Of the general registers, in the order of the x86 encoding. */
  gprs: [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7].map((slot) => GREGS + 8 * slot),
  rip: GREGS + 8 * 16,
  eflags: GREGS + 8 * 17,
  errorCode: GREGS + 8 * 19,
  trapNumber: GREGS + 8 * 20,
  cr2: GREGS + 8 * 22,
  fpstate: GREGS + 8 * 23,
} as const;
