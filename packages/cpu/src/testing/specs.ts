import type { EncodingSpec } from "@xenoserver/testkit";
import { instructions } from "../semantics/index.ts";

const MAPS = ["1", "0f", "0f38", "0f3a"] as const;

/** The instruction table in the form that the oracle's generator takes. */
export function encodingSpecs(): EncodingSpec[] {
  return instructions
    .filter((def) => def.semantics)
    .flatMap((def) =>
      def.encodings.map((e): EncodingSpec => {
        const o = e.options;
        const prefix = { 1: "np", 102: "66", 242: "f2", 243: "f3" }[e.prefix] as EncodingSpec["prefix"];
        return {
          mnemonic: def.name,
          map: MAPS[e.map],
          opcode: e.opcode,
          modrm: e.modrm,
          operands: e.operands.map((operand) => operand.text),
          ...(prefix && { prefix }),
          ...(e.digit >= 0 && { reg: e.digit }),
          ...(e.rm >= 0 && { rm: e.rm }),
          ...(o.has("mem") ? { modOnly: "mem" as const } : o.has("reg") ? { modOnly: "reg" as const } : {}),
          ...(e.plusR && { plusR: true }),
          ...(o.has("w1") ? { rexW: 1 as const } : o.has("w0") ? { rexW: 0 as const } : {}),
          ...(o.has("i64") && { invalid64: true }),
        };
      }),
    );
}
