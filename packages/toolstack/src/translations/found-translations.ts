/** What a file of translations has, in the order in which it was written: thousands of records, so that each is some numbers and no object. */
import type { RecordHead } from "./record.ts";

export class FoundTranslations {
  readonly #at: Float64Array;
  readonly #identity: Uint32Array;
  readonly #codeBytes: Uint32Array;
  readonly #usedAt: Uint32Array;

  /** @param records  by their places in the file */
  constructor(records: readonly { readonly at: number; readonly head: RecordHead }[]) {
    this.#at = Float64Array.from(records, ({ at }) => at);
    this.#identity = Uint32Array.from(records, ({ head }) => head.identity);
    this.#codeBytes = Uint32Array.from(records, ({ head }) => head.codeBytes);
    this.#usedAt = Uint32Array.from(records, ({ head }) => head.usedAt);
  }

  get count(): number {
    return this.#at.length;
  }
  /** Where records begin, in bytes from the file's beginning. */
  get places(): Float64Array {
    return this.#at;
  }

  /** @returns the number of the record that begins there; -1 if none does */
  at(place: number): number {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#at[middle]! < place) low = middle + 1;
      else high = middle;
    }
    return this.#at[low] === place ? low : -1;
  }
  /** @returns the number of the module's record; -1 if it has none */
  withIdentity(identity: number): number {
    return this.#identity.indexOf(identity);
  }

  placeOf(number: number): number {
    return this.#at[number]!;
  }
  identityOf(number: number): number {
    return this.#identity[number]!;
  }
  codeBytesOf(number: number): number {
    return this.#codeBytes[number]!;
  }
  /** As it was when the file was opened, see `RecordHead.usedAt`. */
  usedAt(number: number): number {
    return this.#usedAt[number]!;
  }
}
