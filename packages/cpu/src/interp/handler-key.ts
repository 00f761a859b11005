/** Which instructions share a handler. */
import type { Decoded } from "../decode/decoded.ts";
import { CodeMode } from "../state/layout.ts";
import { isWideImmediate } from "./interp-ops.ts";

/** The identity of a handler: instructions that agree in it run the same code. */
export function handlerKey(d: Decoded, codeMode: number, indexed: boolean): string {
  const operands = d.operands.map((o, position) => {
    const fixed = d.encoding.operands[position].kind === "fixed";
    const wide = o.kind === "imm" && isWideImmediate(d) ? "wide" : "";
    return `${o.kind}${o.width}${wide}${fixed ? `=${d.encoding.operands[position].text}` : ""}`;
  });
  const addressed = d.encoding.options.has("a") ? d.addressSize : 0;
  const is64 = (codeMode & CodeMode.sizeMask) === CodeMode.code64;
  const mode = is64 ? "64" : codeMode & CodeMode.stack32 ? "32" : "16";
  const indexing = indexed ? "x" : "";
  return `${d.def.name}/${d.operandSize}/${operands.join()}/${indexing}${d.lock ? "L" : ""}${repOf(d)}/${addressed}/${mode}/${variantOf(d)}`;
}
/** A number that is different whenever the key is; the same key may have several. */
export function variantNumber(d: Decoded, codeMode: number, indexed: boolean): number {
  const rep = d.rep === 0 ? 0 : d.rep & 3;
  const bits = (d.operandSize >> 1) | ((d.addressSize >> 2) << 3) | ((codeMode & 7) << 5) | (rep << 8);
  const flags = (d.memory ? 1 : 0) | (indexed ? 2 : 0) | (d.lock ? 4 : 0);
  return (d.encoding.id << 13) | (flags << 10) | bits;
}

/** Repetition matters to string instructions only. */
const repOf = (d: Decoded): string => (d.encoding.options.has("a") && d.rep ? d.rep.toString(16) : "");
/** Definitions whose encodings differ in meaning beyond their operands. */
const variantOf = (d: Decoded): string => (d.encoding.options.has("variant") ? d.encoding.text : "");
