/** What a vcpu's thread is given, and what it tells the main thread. */
import type { DomainMemoryHandle, VcpuStart } from "@xenoserver/cpu";
import type { RegionEnd } from "./region-channel.ts";
import type { EngineChoice } from "./running-domain.ts";

export interface VcpuThreadData {
  readonly vcpuId: number;
  readonly memory: DomainMemoryHandle;
  /** The domain's control block. */
  readonly control: SharedArrayBuffer;
  readonly engine: EngineChoice;
  /** To the thread that compiles hot code, unless none is to be. */
  readonly regions?: RegionEnd;
  /** Only for the vcpu that runs from the start; the others wait for a startup IPI. */
  readonly start?: VcpuStart;
}

export type VcpuMessage =
  | { readonly kind: "log"; readonly message: string }
  /** The last message of a thread. */
  | {
      readonly kind: "end";
      readonly instructions: number;
      readonly exits: Record<string, number>;
      readonly registers: string;
    };
