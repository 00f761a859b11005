import { linuxFunctions } from "./foreign-functions.ts";

/**
 * What lets other threads that wait for this one's processor run before it goes on.
 * @returns undefined where it cannot be called
 */
export function openYield(): (() => void) | undefined {
  return linuxFunctions()?.dlopen(null, { sched_yield: { arguments: [], return: "i32" } }).functions.sched_yield;
}
