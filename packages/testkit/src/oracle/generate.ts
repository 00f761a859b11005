import type { CaseBits, TestCase } from "./case.ts";
import { CaseBuilder } from "./case-builder.ts";
import { type EncodingSpec, mnemonicOf, specText } from "./encoding-spec.ts";
import { emitHelpers } from "./generate-helpers.ts";
import { emitInstruction } from "./instruction.ts";
import { Prng } from "./prng.ts";
import { type Drawable, traitsOf } from "./traits.ts";
import { statusEffect } from "./undefined-flags.ts";

export interface GeneratorOptions {
  readonly seed: number;
  readonly specs: readonly EncodingSpec[];
  /**
   * Draw the AC flag too. Default false: what is checked in 8- and 16-byte accesses of MMX and SSE depends on the
   * processor, and only few engines care.
   */
  readonly alignmentCheck?: boolean;
  /** 32 draws code for compatibility mode; default 64. */
  readonly bits?: CaseBits;
  /** Longest sequence; default 8. */
  readonly maxInstructions?: number;
}

/**
 * What these store is the processor's own in part (MXCSR_MASK, where the last x87 instruction was), which is not compared where it was stored, but would be where a
 * later instruction has copied it to: so nothing follows them.
 */
const STORES_STATE = /^F(XSAVE|N?SAVE|N?STENV)/;

const comesLast = (d: Drawable): boolean => d.traits.privileged || STORES_STATE.test(d.name);

/**
 * Draws test cases from an encoding table, the same for the same seed and table.
 *
 * Memory operands go to scratch memory by registers that the sequence otherwise leaves alone. Where an instruction
 * needs more to do something sensible (a count, a dividend that fits, a return address), helper instructions precede it.
 */
export class Generator {
  readonly #r: Prng;
  readonly #drawables: readonly Drawable[];
  readonly #max: number;
  readonly #bits: CaseBits;
  readonly #alignmentCheck: boolean;
  /** Whether there is an instruction that another may follow. */
  readonly #continues: boolean;

  /** @throws if no line of the table can be drawn */
  constructor(options: GeneratorOptions) {
    this.#r = new Prng(options.seed);
    this.#max = options.maxInstructions ?? 8;
    this.#bits = options.bits ?? 64;
    this.#alignmentCheck = options.alignmentCheck ?? false;
    this.#drawables = drawables(options.specs, this.#bits);
    this.#continues = !this.#drawables.every(comesLast);
    if (this.#drawables.length === 0) throw new Error("generator: the table has no encoding that can be drawn");
  }

  /** A sequence of 1 to `maxInstructions` instructions. */
  next(): TestCase {
    const r = this.#r;
    const count = r.chance(25) || !this.#continues ? 1 : r.between(1, this.#max);
    const sequence: Drawable[] = [];
    while (sequence.length < count) {
      const d = r.pick(this.#drawables);
      const last = sequence.length === count - 1;
      if (!last && comesLast(d)) continue;
      // These end every sequence they are in, so they are not drawn often.
      if (d.traits.privileged && this.#continues && r.chance(60)) continue;
      sequence.push(d);
    }
    return this.#build(sequence);
  }

  /** `count` cases of the one encoding alone; empty if the encoding is never drawn. */
  *each(spec: EncodingSpec, count: number): IterableIterator<TestCase> {
    const [d] = drawables([spec], this.#bits);
    for (let i = 0; d !== undefined && i < count; i++) yield this.#build([d]);
  }

  #build(sequence: readonly Drawable[]): TestCase {
    const r = this.#r;
    const b = new CaseBuilder(
      r,
      {
        stringPointers: sequence.some((d) => d.traits.string || d.name.startsWith("MASKMOV")),
        rbxPointer: sequence.some((d) => d.traits.implicitPointer),
        frame: sequence.some((d) => d.name === "LEAVE" || d.name === "ENTER"),
        fp: sequence.some((d) => d.traits.fp),
        alignmentCheck: this.#alignmentCheck,
      },
      this.#bits,
    );
    sequence.forEach((d, i) => {
      b.begin(
        d.text,
        d.spec.operands.some((o) => /^[PQN]/.test(o)),
      );
      // The condition codes cannot be settled as flags can, so nothing stores them while they are undefined.
      if ((statusEffect(d.spec, d.name).reads & b.undefinedStatus) !== 0) return;
      const helped = emitHelpers(r, b, d, { index: i, count: sequence.length });
      emitInstruction(r, b, d, { ...helped, index: i, count: sequence.length });
    });
    return b.finish();
  }
}

/** Operands that exist in one form of ModRM only say which. */
function withForm(spec: EncodingSpec): EncodingSpec {
  if (spec.modOnly !== undefined) return spec;
  if (spec.operands.some((o) => o[0] === "M")) return { ...spec, modOnly: "mem" };
  if (spec.rm !== undefined || spec.operands.some((o) => /^[RUN]/.test(o))) return { ...spec, modOnly: "reg" };
  return spec;
}

function drawables(specs: readonly EncodingSpec[], bits: CaseBits): Drawable[] {
  return specs
    .map((given) => {
      const spec = withForm(given);
      return { spec, name: mnemonicOf(spec), text: specText(spec), traits: traitsOf(spec, bits) };
    })
    .filter((d) => d.traits.excluded === undefined);
}

/** The lines that are never drawn, with the reason: so that a report can say what is not covered. */
export function excludedSpecs(
  specs: readonly EncodingSpec[],
  bits: CaseBits = 64,
): { spec: EncodingSpec; reason: string }[] {
  return specs.flatMap((spec) => {
    const reason = traitsOf(withForm(spec), bits).excluded;
    return reason === undefined ? [] : [{ spec, reason }];
  });
}
