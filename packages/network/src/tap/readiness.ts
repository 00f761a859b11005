/**
 * Being told that a tap has frames. Node's event loop waits for sockets and pipes only, and a read that blocks would keep one of libuv's four
 * threads for itself; but the kernel sends a signal when there is something to read, and signals wake the loop.
 */
import { isMainThread } from "node:worker_threads";
import type { HostCalls } from "./calls.ts";

/** @see fcntl(2) */
const F_SETFL = 4;
const F_SETOWN_EX = 15;
const F_OWNER_TID = 0;
const O_NONBLOCK = 0o4000;
const O_ASYNC = 0o20000;

const waiting = new Set<() => void>();
let isListening = false;

/**
 * Calls `look` whenever something may be there to read; it then has to read all of it, for it is not told twice.
 * @returns  stops; the descriptor is to be closed before
 * @throws Error  the kernel does not tell, or signals do not reach this thread
 */
export function whenReadable(calls: HostCalls, fd: number, look: () => void): () => void {
  if (!isMainThread) throw new Error("a tap is read on the main thread of its process only");
  // Once and for good: without a handler the signal would end the process.
  if (!isListening) process.on("SIGIO", () => waiting.forEach((each) => each()));
  isListening = true;
  const owner = Int32Array.of(F_OWNER_TID, process.pid);
  // The main thread's number is the process's. Without it, a vcpu's thread might be the one that is interrupted.
  const told =
    calls.fcntl(fd, F_SETFL, BigInt(O_NONBLOCK | O_ASYNC)) >= 0 &&
    calls.fcntl(fd, F_SETOWN_EX, calls.addressOf(owner.buffer)) >= 0;
  if (!told) throw new Error("the kernel does not tell when a tap has frames");
  waiting.add(look);
  return () => void waiting.delete(look);
}
