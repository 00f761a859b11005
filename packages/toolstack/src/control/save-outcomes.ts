/**
 * What came of a domain's saves, for who loses the line before the answer. It is asked for over another line, or read in the `end.json`
 * of the process.
 */
import { type AfterSave, ControlError, type SaveOutcome } from "./protocol.ts";

/** Of so many that are over, it is still known. */
const MAX_KEPT = 16;
const ENDED = "the domain ended meanwhile";

/** A save from its request on. What is first said of it holds. */
export class Saving {
  readonly token: string;
  readonly #path: string;
  readonly #next: AfterSave;
  readonly #over = Promise.withResolvers<SaveOutcome>();
  #outcome: SaveOutcome | undefined;

  constructor(token: string, path: string, next: AfterSave) {
    this.token = token;
    this.#path = path;
    this.#next = next;
  }

  get outcome(): SaveOutcome | undefined {
    return this.#outcome;
  }
  get over(): Promise<SaveOutcome> {
    return this.#over.promise;
  }

  /** Between this and `succeed` nothing may be awaited: what the domain's end tells of its saves has to be what they come to. @throws Error  it is over */
  mustGoOn(): void {
    if (this.#outcome !== undefined) throw new Error(ENDED);
  }
  /** The file is whole. */
  succeed(bytes: number): void {
    this.#end({ bytes });
  }
  /** There is none, and will be none. */
  fail(error: string): void {
    this.#end({ error });
  }
  failByEnd(): void {
    this.fail(`${this.#path}: cannot be written: ${ENDED}`);
  }

  #end(what: { readonly bytes: number } | { readonly error: string }): void {
    this.#outcome ??= { token: this.token, path: this.#path, next: this.#next, ...what };
    this.#over.resolve(this.#outcome);
  }
}

export class SaveOutcomes {
  /** The oldest first. */
  #kept: Saving[] = [];

  /** Does a save, and keeps what comes of it if there is a token to ask for it by. */
  async keep<T>(
    token: string | undefined,
    path: string,
    next: AfterSave,
    work: (saving: Saving) => Promise<T>,
  ): Promise<T> {
    const saving = new Saving(token ?? "", path, next);
    if (token !== undefined) this.#add(saving);
    try {
      return await work(saving);
    } catch (error) {
      saving.fail((error as Error).message);
      throw error;
    }
  }

  /** Waits until a save is over. @throws ControlError  none is known */
  async of(token: string): Promise<SaveOutcome> {
    const saving = this.#kept.find((kept) => kept.token === token);
    if (saving === undefined) throw new ControlError("not-found", `token is "${token}", which no save has`);
    return saving.over;
  }

  /** The domain has ended: what is not written is not written any more. @returns what came of the last ones */
  end(): SaveOutcome[] {
    for (const saving of this.#kept) saving.failByEnd();
    return this.#kept.map(({ outcome }) => outcome!);
  }

  #add(saving: Saving): void {
    const over = this.#kept.filter(({ outcome }) => outcome !== undefined);
    const old = new Set(over.slice(0, Math.max(0, over.length - MAX_KEPT + 1)));
    this.#kept = [...this.#kept.filter((kept) => !old.has(kept)), saving];
  }
}
