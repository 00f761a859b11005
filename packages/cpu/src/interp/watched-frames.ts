import type { CodeLogReader } from "../memory/code-log.ts";
import type { DomainMemory } from "../memory/domain-memory.ts";
import { CODE_GRANULE_BYTES } from "../state/layout.ts";

/** Is told what others change in frames that a vcpu has code from. */
type CodeChanges = Pick<CodeLogReader, "modified" | "overflowed">;

/** Which frames one vcpu has code from, and where in them that is, for all vcpus to see: stores there are told to who has it. */
export class WatchedFrames {
  readonly #memory: DomainMemory;
  readonly #bytes: Uint8Array;
  readonly #vcpuId: number;
  /** Has this vcpu's stores into a frame go through the slow path; not 0 if some went directly before. */
  readonly #dropWriteEntries: (frame: number) => number;

  readonly #reader: CodeLogReader;

  constructor(
    memory: DomainMemory,
    vcpuId: number,
    dropWriteEntries: (frame: number) => number,
    { modified, overflowed }: CodeChanges,
  ) {
    this.#memory = memory;
    this.#bytes = new Uint8Array(memory.memory.buffer);
    this.#vcpuId = vcpuId;
    this.#dropWriteEntries = dropWriteEntries;
    const watched = (frame: number): void => {
      // Stores made directly until now were seen by nobody: whoever has code from the frame must read it again.
      if (dropWriteEntries(frame)) this.tellOthers(frame, 0, 4096);
    };
    this.#reader = { modified, overflowed, watched };
  }

  get #own(): number {
    return 1 << this.#vcpuId;
  }
  #flagsOf(frame: number): number {
    return this.#memory.layout.frameFlags + frame;
  }
  #mapOf(frame: number): number {
    return this.#memory.layout.codeMaps + frame * 16;
  }

  /** From now on stores into the frame, by any vcpu, go through the slow path. */
  watch(frame: number): void {
    const before = Atomics.or(this.#bytes, this.#flagsOf(frame), this.#own);
    if (before !== 0) return;
    this.#dropWriteEntries(frame);
    if (this.#memory.layout.vcpuCount > 1) this.#memory.codeLog.watch(frame, this.#vcpuId);
  }
  /** As far as this vcpu goes, stores into the frame may go directly. */
  unwatch(frame: number): void {
    Atomics.and(this.#bytes, this.#flagsOf(frame), ~this.#own);
  }
  /** The same, and the frame has no code if no other vcpu has some from it. */
  forget(frame: number): void {
    const left = Atomics.and(this.#bytes, this.#flagsOf(frame), ~this.#own) & ~this.#own;
    if (left === 0) this.#clear(frame);
  }

  /** Marks bytes of a frame as code. */
  mark(frame: number, start: number, end: number): void {
    const map = this.#mapOf(frame);
    const last = Math.floor((Math.min(end, 4096) - 1) / CODE_GRANULE_BYTES);
    for (let granule = Math.floor(start / CODE_GRANULE_BYTES); granule <= last; granule++) {
      this.#bytes[map + (granule >> 3)] |= 1 << (granule & 7);
    }
  }
  /**
   * Unmarks all of a frame, for what is left to be marked anew.
   * @returns false if others' code may lie in the same granules: the map stays as it is then, which costs no more than a look
   */
  unmark(frame: number): boolean {
    if (this.#bytes[this.#flagsOf(frame)] !== this.#own) return false;
    this.#clear(frame);
    return true;
  }
  #clear(frame: number): void {
    this.#bytes.fill(0, this.#mapOf(frame), this.#mapOf(frame) + 16);
  }

  /** Whether other vcpus have code from a frame. */
  isOthers(frame: number): boolean {
    return (this.#bytes[this.#flagsOf(frame)] & ~this.#own) !== 0;
  }
  tellOthers(frame: number, offset: number, sizeBytes: number): void {
    this.#memory.codeLog.modified(frame, offset, sizeBytes, this.#vcpuId);
  }
  /** Takes in what others changed since the last call. */
  catchUp(): void {
    const { codeLog } = this.#memory;
    if (codeLog.hasNews) codeLog.catchUp(this.#reader, this.#vcpuId);
  }
}
