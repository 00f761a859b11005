import { Decoder } from "../decode/decoder.ts";
import { CodeMode } from "../state/layout.ts";
import { addressForm } from "./address.ts";
import { HOT_INSTRUCTIONS } from "./hot-instructions.ts";
import { handlerKey } from "./interpreter.ts";
import type { HandlerSample } from "./main-loop.ts";

/** Handlers to build into the dispatch loop, from one encoded 64-bit instruction for each. */
export function hotHandlers(): HandlerSample[] {
  const decoder = new Decoder();
  const codeMode = CodeMode.code64 | CodeMode.stack32 | CodeMode.flat;
  const samples = new Map<string, HandlerSample>();
  for (const hex of HOT_INSTRUCTIONS) {
    const bytes = Uint8Array.from(hex.match(/../g)!, (b) => Number.parseInt(b, 16));
    const decoded = decoder.decode(bytes, 0, bytes.length, codeMode);
    if (!decoded?.def.semantics) throw new Error(`hot instruction ${hex} has no handler`);
    const indexed = addressForm(decoded, codeMode, 0)?.indexed ?? false;
    const key = handlerKey(decoded, codeMode, indexed);
    samples.set(key, { key, decoded, codeMode, indexed, bytes });
  }
  return [...samples.values()];
}
