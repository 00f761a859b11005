/** What a vcpu's thread is given, and what it tells the main thread. */
import type { MessagePort } from "node:worker_threads";
import type { DomainMemoryHandle, VcpuStart } from "@xenoserver/cpu";
import type { FramesHandle } from "../snapshot/frame-source.ts";
import type { TranslationsPlace } from "../translations/place.ts";
import type { RegionEnd } from "./region-channel.ts";
import type { EngineChoice } from "./running-domain.ts";

/** To a thread that runs vcpus. */
export type ThreadMessage =
  /** It makes what an engine for memory of this size needs, and sends a message when it has. */
  | { readonly kind: "warm"; readonly memory: DomainMemoryHandle }
  /** In a shared word: how many domains are to begin before those that have go on. */
  | { readonly kind: "turns"; readonly coming: Int32Array }
  /**
   * It is to run a vcpu, beside others if there is a line, which is then what is spoken over and closed at the end; else alone, until its
   * domain ends and the thread with it.
   */
  | { readonly kind: "vcpu"; readonly data: VcpuThreadData; readonly line?: MessagePort };

/** First: enough to get ready while the domain is being built. */
export interface VcpuThreadData {
  readonly vcpuId: number;
  readonly nrVcpus: number;
  readonly domid: number;
  readonly memory: DomainMemoryHandle;
  readonly engine: EngineChoice;
  /** To the thread that compiles hot code, unless none is to be. */
  readonly regions?: RegionEnd;
  /** Where translations are kept, unless they are not. */
  readonly translations?: TranslationsPlace;
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
  /** When the vcpu first came back from the guest, in milliseconds since the Unix epoch. */
  | { readonly kind: "ran"; readonly atMs: number }
  /** On a thread with others: it could not go on. */
  | { readonly kind: "failed"; readonly reason: string }
  /** The last message of a thread. */
  | {
      readonly kind: "end";
      readonly instructions: number;
      readonly exits: Record<string, number>;
      readonly registers: string;
    };
