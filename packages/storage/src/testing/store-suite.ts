/** What every store must do, against a model in memory. */
import assert from "node:assert/strict";
import type { BlockStore } from "@xenoserver/devices/block/store.ts";
import fc from "fast-check";

export type Operation =
  | { readonly kind: "write"; readonly sector: number; readonly count: number; readonly seed: number }
  | { readonly kind: "discard"; readonly sector: number; readonly count: number }
  | { readonly kind: "read"; readonly sector: number; readonly count: number }
  | { readonly kind: "flush" }
  | { readonly kind: "reopen" }
  | { readonly kind: "snapshot" };

/** @param sectors  of the disk; operations are placed where they meet often */
export function operations(sectors: number, kinds: readonly Operation["kind"][]): fc.Arbitrary<Operation[]> {
  const place = fc.tuple(
    fc.nat(sectors - 1),
    fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 600 })),
  );
  const operation = fc
    .tuple(fc.constantFrom(...kinds), place, fc.integer({ min: 1, max: 255 }))
    .map(
      ([kind, [sector, count], seed]) =>
        ({ kind, sector, count: Math.min(count, sectors - sector), seed }) as Operation,
    );
  return fc.array(operation, { minLength: 1, maxLength: 40 });
}

/** Bytes that tell where they belong. */
export function pattern(sector: number, count: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(count * 512);
  for (let n = 0; n < bytes.length; n++) bytes[n] = seed + n * 7 + (sector + (n >>> 9)) * 13;
  return bytes;
}

/** The same bytes in uneven parts, as a guest's pages are. */
export function inParts(bytes: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let at = 0, length = 512; at < bytes.length; at += length, length = length === 512 ? 4096 : 512) {
    parts.push(bytes.subarray(at, at + length));
  }
  return parts;
}

export async function readAll(store: BlockStore, offset = 0, lengthBytes = store.info.sizeBytes): Promise<Uint8Array> {
  const bytes = new Uint8Array(lengthBytes).fill(0xee);
  await store.read(offset, inParts(bytes));
  return bytes;
}

/**
 * Does operations on a store and on a model, and compares them.
 * @param open   opens the store, again for each "reopen"
 * @param model  what the disk holds before; holds afterwards what it should
 * @param other  does what this does not know, such as "snapshot"
 */
export async function checkAgainstModel(
  open: () => Promise<BlockStore>,
  model: Uint8Array,
  steps: readonly Operation[],
  other: (kind: "snapshot", store: BlockStore) => Promise<BlockStore> = async (_, store) => store,
): Promise<BlockStore> {
  let store = await open();
  /** Discarded bytes may read as anything. */
  const known = new Uint8Array(model.length).fill(1);
  for (const step of steps) {
    if (step.kind === "flush") await store.flush();
    else if (step.kind === "snapshot") store = await other("snapshot", store);
    else if (step.kind === "reopen") {
      await store.close();
      store = await open();
    } else {
      const [offset, lengthBytes] = [step.sector * 512, step.count * 512];
      if (step.kind === "write") {
        const bytes = pattern(step.sector, step.count, step.seed);
        await store.write(offset, inParts(bytes));
        model.set(bytes, offset);
        known.fill(1, offset, offset + lengthBytes);
      } else if (step.kind === "discard") {
        await store.discard(offset, lengthBytes);
        known.fill(0, offset, offset + lengthBytes);
      } else compare(await readAll(store, offset, lengthBytes), model, known, offset);
    }
  }
  const now = await readAll(store);
  compare(now, model, known, 0);
  model.set(now);
  return store;
}

function compare(read: Uint8Array, model: Uint8Array, known: Uint8Array, offset: number): void {
  for (let n = 0; n < read.length; n++) {
    if (known[offset + n] === 1 && read[n] !== model[offset + n]) {
      assert.fail(`byte ${offset + n} is ${read[n]}, expected ${model[offset + n]}`);
    }
  }
}
