/** What a vcpu's thread is given, and what it tells the main thread. */
import type { DomainMemoryHandle, VcpuStart } from "@xenoserver/cpu";
import type { FramesHandle } from "../snapshot/frame-source.ts";
import type { RegionEnd } from "./region-channel.ts";
import type { EngineChoice } from "./running-domain.ts";

/** First: enough to get ready while the domain is being built. */
export interface VcpuThreadData {
  readonly vcpuId: number;
  readonly nrVcpus: number;
  readonly domid: number;
  readonly memory: DomainMemoryHandle;
  readonly engine: EngineChoice;
  /** To the thread that compiles hot code, unless none is to be. */
  readonly regions?: RegionEnd;
}

/** When the domain is built. */
export interface VcpuBegin {
  /** The domain's control block. */
  readonly control: SharedArrayBuffer;
  /** Only for the vcpu that runs from the start; the others wait for a startup IPI. */
  readonly start?: VcpuStart;
  /** From where frames are fetched that are not in memory yet. */
  readonly frames?: FramesHandle;
  /** What `saveVcpu` gave, for a vcpu that goes on. */
  readonly saved?: Uint8Array;
}

export type VcpuMessage =
  /** First: the system's number of the thread, if it tells. */
  | { readonly kind: "thread"; readonly tid: number | undefined }
  | { readonly kind: "log"; readonly message: string }
  /** The last message of a thread. */
  | {
      readonly kind: "end";
      readonly instructions: number;
      readonly exits: Record<string, number>;
      readonly registers: string;
    };
