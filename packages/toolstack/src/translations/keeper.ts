/** Keeps what a process translates for later ones. Whatever goes wrong, its domains do not notice. */

import type { CompiledRegion } from "@xenoserver/cpu/jit/region-compiler.ts";
import { describeRegions } from "@xenoserver/cpu/kept/described.ts";
import { KnownRegions } from "@xenoserver/cpu/kept/known-regions.ts";
import { machineCode } from "@xenoserver/xen/host/machine-code/machine-code.ts";
import { writeEngine } from "./engine-file.ts";
import type { KnownHandle } from "./kept-modules.ts";
import { identityOf, type KeptTranslation } from "./record.ts";
import { type FoundTranslation, TranslationFile } from "./translation-file.ts";

/** So long what V8 makes of a module is followed: to refer to it longer would keep machine code that nobody runs any more. */
const FOLLOWED_MS = 60_000;
/** V8 optimises a module's functions one by one: a module is kept again when its machine code has grown by so much. */
const GROWN = 1.1;

interface Followed {
  readonly module: WebAssembly.Module;
  readonly bytes: Uint8Array;
  readonly since: number;
  /** Of the machine code in the file; 0 if there is none. */
  codeBytes: number;
}
interface Kept extends Followed {
  readonly regions: Int32Array;
}

/** @returns a module's machine code, if there is more of it than was kept */
function betterCode(followed: Followed): Uint8Array | undefined {
  const code = machineCode()!.of(followed.module);
  if (code === undefined || code.length <= followed.codeBytes * GROWN) return undefined;
  followed.codeBytes = code.length;
  return code;
}
const isFollowed = ({ since }: Followed): boolean => performance.now() - since < FOLLOWED_MS;

export class TranslationKeeper {
  readonly #file: TranslationFile;
  readonly #foundAt: ReadonlyMap<number, FoundTranslation>;
  readonly #foundAs: ReadonlyMap<number, FoundTranslation>;
  #kept: Kept[] = [];
  readonly #used = new Set<FoundTranslation>();
  /** What all vcpus are told; undefined if there is nothing. */
  readonly known: KnownHandle | undefined;

  private constructor(file: TranslationFile) {
    this.#file = file;
    this.#foundAt = new Map(file.found.map((found) => [found.at, found]));
    this.#foundAs = new Map(file.found.map((found) => [found.head.identity, found]));
    if (file.found.length > 0) this.known = { index: KnownRegions.build(file.takeKnown()), fd: file.fd };
  }

  /** @returns undefined if nothing can be kept here */
  static open(path: string): TranslationKeeper | undefined {
    if (machineCode() === undefined) return undefined;
    const file = TranslationFile.open(path);
    return file && new TranslationKeeper(file);
  }

  /** A module was compiled. */
  note(module: WebAssembly.Module, bytes: Uint8Array, compiled: readonly CompiledRegion[]): void {
    const regions = describeRegions(compiled);
    const found = this.#foundAs.get(identityOf(regions, bytes));
    if (found) this.#used.add(found);
    this.#follow(module, regions, bytes, found?.head.codeBytes ?? 0);
  }

  /** A vcpu has a module from the file. @param at  where its record begins */
  noteRead(at: number, module: WebAssembly.Module): void {
    const found = this.#foundAt.get(at);
    if (found === undefined || this.#used.has(found)) return;
    this.#used.add(found);
    const read = this.#file.read(found);
    if (read) this.#follow(module, read.regions, read.bytes, found.head.codeBytes);
  }
  #follow(module: WebAssembly.Module, regions: Int32Array, bytes: Uint8Array, codeBytes: number): void {
    this.#kept.push({ module, regions, bytes, codeBytes, since: performance.now() });
  }

  /** Writes what is new, or better than what the file has. */
  keep(): void {
    const better = this.#kept.flatMap((kept): KeptTranslation[] => {
      const code = betterCode(kept);
      return code ? [{ regions: kept.regions, bytes: kept.bytes, code }] : [];
    });
    this.#kept = this.#kept.filter(isFollowed);
    try {
      this.#file.add(better, (found) => this.#used.has(found));
    } catch {
      // A full disk: what is not kept is translated again.
    }
  }
}

/** Keeps engines' own modules. */
export class EngineKeeper {
  readonly #kept = new Map<string, Followed>();

  /** @param codeBytes  how much machine code the file has; 0 if there is none */
  note(path: string, module: WebAssembly.Module, bytes: Uint8Array, codeBytes: number): void {
    if (machineCode() !== undefined) this.#kept.set(path, { module, bytes, codeBytes, since: performance.now() });
  }

  keep(): void {
    for (const [path, kept] of this.#kept) {
      try {
        const code = betterCode(kept);
        if (code) writeEngine(path, kept.bytes, code);
      } catch {
        // As above.
      }
      if (!isFollowed(kept)) this.#kept.delete(path);
    }
  }
}
