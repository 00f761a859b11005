import { type Fn, type I32, i32 } from "@xenoserver/wasm";
import { JUMP_CACHE_BITS, JUMP_CACHE_FACTOR, JUMP_CACHE_OFFSET } from "../state/layout.ts";

const HASH_SHIFT = 32 - JUMP_CACHE_BITS;

/** Emits the look-up of a code table's word through the jump cache; 0 if no trace starts there. */
export function emitFindRecord(f: Fn, vb: I32, word: I32): I32 {
  const key = f.let(word);
  const entry = f.let(key.mul(i32(JUMP_CACHE_FACTOR)).shrU(HASH_SHIFT).shl(3).add(vb));
  const found = f.var("i32", f.load("i32.load", entry, JUMP_CACHE_OFFSET + 4));
  f.if(f.load<"i32">("i32.load", entry, JUMP_CACHE_OFFSET).ne(key), () => {
    found.set(f.load("i32.load", key));
    f.if(found.get(), () => {
      f.store("i32.store", entry, key, JUMP_CACHE_OFFSET);
      f.store("i32.store", entry, found.get(), JUMP_CACHE_OFFSET + 4);
    });
  });
  return found.get();
}

/** Address of the cache entry that a code table's word can be in. */
export const jumpCacheEntry = (vb: number, word: number): number =>
  vb + JUMP_CACHE_OFFSET + (Math.imul(word, JUMP_CACHE_FACTOR) >>> HASH_SHIFT) * 8;
