/** The handlers that an engine has from the start. */
import { Decoder } from "../decode/decoder.ts";
import { CodeMode } from "../state/layout.ts";
import { addressForm } from "./address.ts";
import { COMMON_INSTRUCTIONS } from "./common-instructions.ts";
import { handlerKey } from "./handler-key.ts";
import { HOT_INSTRUCTIONS } from "./hot-instructions.ts";
import type { HandlerSample } from "./main-loop.ts";

export interface BuiltHandlers {
  /** Those inside the dispatch loop. */
  readonly inline: readonly HandlerSample[];
  /** Those that are functions of the same module. */
  readonly common: readonly HandlerSample[];
}

let built: BuiltHandlers | undefined;

/** Made once in a thread, whoever asks. */
export function builtHandlers(): BuiltHandlers {
  built ??= makeHandlers();
  return built;
}

function makeHandlers(): BuiltHandlers {
  const [inline, common] = [samplesOf(HOT_INSTRUCTIONS), samplesOf(COMMON_INSTRUCTIONS)];
  for (const key of inline.keys()) common.delete(key);
  return { inline: [...inline.values()], common: [...common.values()] };
}

/** A sample for each handler, from one encoded 64-bit instruction for each. */
function samplesOf(instructions: readonly string[]): Map<string, HandlerSample> {
  const decoder = new Decoder();
  const codeMode = CodeMode.code64 | CodeMode.stack32 | CodeMode.flat;
  const samples = new Map<string, HandlerSample>();
  for (const hex of instructions) {
    const bytes = Uint8Array.from(hex.match(/../g)!, (b) => Number.parseInt(b, 16));
    const decoded = decoder.decode(bytes, 0, bytes.length, codeMode);
    if (!decoded?.def.semantics) throw new Error(`instruction ${hex} has no handler`);
    const indexed = addressForm(decoded, codeMode, 0)?.indexed ?? false;
    const key = handlerKey(decoded, codeMode, indexed);
    samples.set(key, { key, decoded, codeMode, indexed, bytes });
  }
  return samples;
}
