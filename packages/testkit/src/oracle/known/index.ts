import { COMPATIBILITY_ANSWERS } from "./compatibility.ts";
import { CONTROL_ANSWERS } from "./control.ts";
import { INTEGER_ANSWERS } from "./integer.ts";
import type { KnownAnswer } from "./known-answer.ts";
import { VECTOR_ANSWERS } from "./vector.ts";
import { X87_ANSWERS } from "./x87.ts";

export { checkAnswer, type KnownAnswer } from "./known-answer.ts";

/** Cases with answers worked out by hand: for the oracle itself, and for every engine on any host. */
export const KNOWN_ANSWERS: readonly KnownAnswer[] = [
  ...INTEGER_ANSWERS,
  ...CONTROL_ANSWERS,
  ...VECTOR_ANSWERS,
  ...X87_ANSWERS,
  ...COMPATIBILITY_ANSWERS,
];
