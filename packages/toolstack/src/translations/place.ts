/** Where translations are kept. Threads load this, and with it nothing heavy of Node's. */
import { cachedDataVersionTag } from "node:v8";
import type { DomainMemory } from "@xenoserver/cpu";

export interface TranslationsPlace {
  readonly folder: string;
  /** A digest that tells engines apart which translate differently. */
  readonly engine: string;
}

/** The file for a domain: one for each engine, V8 with its flags on such a processor, and width of addresses. */
export function translationsPath(place: TranslationsPlace, { layout }: DomainMemory): string {
  const memory = layout.addressType === "i64" ? `i64-${layout.totalBytes}` : "i32";
  return `${nameIn(place)}-${memory}.kept`;
}
/** The file for an engine's own module. @param key  what that depends on */
export const enginePath = (place: TranslationsPlace, key: string): string =>
  `${nameIn(place)}-engine-${hashOf(key)}.kept`;

/** Of all that machine code depends on. */
const nameIn = ({ folder, engine }: TranslationsPlace): string =>
  `${folder}/${engine.slice(0, 16)}-${cachedDataVersionTag().toString(16)}`;

/** FNV-1a of 64 bits. */
function hashOf(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (let k = 0; k < text.length; k++) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(text.charCodeAt(k))) * 0x100000001b3n);
  }
  return hash.toString(16);
}
