/** Keeps what a process translates for later ones. Whatever goes wrong, its domains do not notice. */

import type { CompiledRegion } from "@xenoserver/cpu/jit/region-compiler.ts";
import { describeRegions } from "@xenoserver/cpu/kept/described.ts";
import { writeEngine } from "./engine-file.ts";
import { FollowedModule } from "./followed-module.ts";
import type { KnownHandle } from "./kept-modules.ts";
import { identityOf, type KeptTranslation } from "./record.ts";
import { TranslationFile } from "./translation-file.ts";

/** A module's regions and own bytes; undefined if they cannot be read any more. */
type Told = () => Omit<KeptTranslation, "code"> | undefined;

export class TranslationKeeper {
  readonly #file: TranslationFile;
  readonly #followed = new Map<FollowedModule, Told>();
  /** Identities of what domains of this process have. */
  readonly #used = new Set<number>();
  /** What all vcpus are told; undefined if there is nothing. */
  readonly known: KnownHandle | undefined;

  private constructor(file: TranslationFile) {
    this.#file = file;
    const index = file.takeIndex();
    if (index) this.known = { index, fd: file.fd };
  }

  /** @returns undefined if nothing can be kept here */
  static open(path: string): TranslationKeeper | undefined {
    if (!FollowedModule.isPossible) return undefined;
    const file = TranslationFile.open(path);
    return file && new TranslationKeeper(file);
  }

  /** A module was compiled. */
  note(module: WebAssembly.Module, bytes: Uint8Array, compiled: readonly CompiledRegion[]): void {
    const { found } = this.#file;
    const regions = describeRegions(compiled);
    const identity = identityOf(regions, bytes);
    this.#used.add(identity);
    const known = found.withIdentity(identity);
    const codeBytes = known < 0 ? 0 : found.codeBytesOf(known);
    this.#followed.set(new FollowedModule(module, codeBytes), () => ({ regions, bytes }));
  }

  /** A vcpu has a module from the file. @param at  where its record begins */
  noteRead(at: number, module: WebAssembly.Module): void {
    const { found } = this.#file;
    const number = found.at(at);
    if (number < 0 || this.#used.has(found.identityOf(number))) return;
    this.#used.add(found.identityOf(number));
    this.#file.markUsed(number);
    // Most are never written again: what they are stays in the file until then.
    this.#followed.set(new FollowedModule(module, found.codeBytesOf(number)), () => this.#file.read(number));
  }

  /** Writes what is new, or better than what the file has. @param isLast  looks at all modules, also at those that it would wait with */
  keep(isLast = false): void {
    try {
      this.#file.add(this.#better(isLast), (identity) => this.#used.has(identity));
    } catch {
      // A full disk: what is not kept is translated again.
    }
    for (const module of this.#followed.keys()) if (module.isDone) this.#followed.delete(module);
  }
  *#better(isLast: boolean): Generator<KeptTranslation> {
    for (const [module, told] of this.#followed) {
      const code = module.better(isLast);
      const kept = code && told();
      if (kept) yield { ...kept, code };
    }
  }
}

/** Keeps engines' own modules. */
export class EngineKeeper {
  readonly #followed = new Map<string, { readonly module: FollowedModule; readonly bytes: Uint8Array }>();

  /** @param codeBytes  how much machine code the file has; 0 if there is none */
  note(path: string, module: WebAssembly.Module, bytes: Uint8Array, codeBytes: number): void {
    if (FollowedModule.isPossible) this.#followed.set(path, { module: new FollowedModule(module, codeBytes), bytes });
  }

  keep(isLast = false): void {
    for (const [path, { module, bytes }] of this.#followed) {
      try {
        const code = module.better(isLast);
        if (code) writeEngine(path, bytes, code);
      } catch {
        // As above.
      }
      if (module.isDone) this.#followed.delete(path);
    }
  }
}
