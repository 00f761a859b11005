/**
 * Guest memory: one shared WebAssembly.Memory for a domain. Engine tables lie below `layout.framesOffset`, the
 * domain's frames above it. Host code reaches guest bytes only through `GuestMemory`.
 */
import { type Gfn, type Gpa, PAGE_BYTES } from "../engine.ts";

/** A frame of the domain's memory: an index into the frame area, what Xen calls an mfn. Never visible to the guest. */
export type Frame = number & { readonly __brand: "Frame" };

export interface GuestMemory {
  readonly memory: WebAssembly.Memory;
  /** How many frames the domain has, RAM and hypervisor pages together. */
  readonly frameCount: number;

  /** The frame behind a gfn, or −1 if nothing is mapped there. */
  frameAt(gfn: Gfn): Frame | -1;
  /** Puts a frame at a gfn, replacing what was there. The caller flushes every vcpu's physmap afterwards. */
  mapFrame(gfn: Gfn, frame: Frame): void;
  /** Maps frames that nobody had yet, one behind the other, from a gfn on; throws OutOfFrames. */
  mapFresh(gfn: Gfn, count: number): void;
  unmapFrame(gfn: Gfn): void;
  /** Takes a zeroed frame that no gfn shows yet (for shared info, grant tables, …); throws OutOfFrames. */
  allocateFrame(): Frame;
  /** Takes a frame back, with what is in it. */
  freeFrame(frame: Frame): void;
  /** True if frames were taken back that the host still keeps memory for; see `FreeFrames`. */
  readonly hasFreed: boolean;

  /** The 4096 bytes of a frame, live. The caller must call `markWritten` after storing through it. */
  frameBytes(frame: Frame): Uint8Array;
  /** Marks a frame dirty and drops translated code made from it. */
  markWritten(frame: Frame): void;

  /** Copies from guest-physical memory; false if a page is not mapped (nothing copied is promised). */
  read(at: Gpa, into: Uint8Array): boolean;
  /** Copies into guest-physical memory; false if a page is not mapped. Marks pages written. */
  write(at: Gpa, from: Uint8Array): boolean;
}

export const gfnOf = (gpa: Gpa): Gfn => Math.floor(gpa / PAGE_BYTES) as Gfn;
