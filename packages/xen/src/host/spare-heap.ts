/** Memory that a process holds and does not use. */
import { getHeapStatistics } from "node:v8";
import { linuxFunctions } from "./foreign-functions.ts";

/** Of the C library's heap on Linux. */
interface CHeap {
  malloc_trim(keptBytes: bigint): number;
}

/** This thread's heap is collected when it has grown by so much since. */
const GROWN_BYTES = 3 << 20;

export class SpareHeap {
  readonly #cHeap = openCHeap();
  #collectedBytes = 0;

  /**
   * Gives back to the host what this thread's JavaScript has left, and what is free in the process's C heap. V8's compilers work in that, and
   * what they leave is scattered: the library gives back by itself only what is at the end. Takes a millisecond or two, and some 20 when the heap
   * had grown.
   */
  giveBack(): void {
    if (getHeapStatistics().total_heap_size > this.#collectedBytes + GROWN_BYTES) {
      // There where Node was started with --expose-gc. The flavour that leaves the least to grow into also drops the shapes of all objects that are not
      // there at the moment, and with them the code that was optimised for those.
      globalThis.gc?.({ type: "major", execution: "sync", flavor: "regular" });
      this.#collectedBytes = getHeapStatistics().total_heap_size;
    }
    this.#cHeap?.malloc_trim(0n);
  }
}

function openCHeap(): CHeap | undefined {
  try {
    return linuxFunctions()?.dlopen(null, { malloc_trim: { arguments: ["u64"], return: "i32" } }).functions;
  } catch {
    // Only the GNU C library has it.
    return undefined;
  }
}
