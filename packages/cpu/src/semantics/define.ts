import type { Decoded } from "../decode/decoded.ts";
import { type Encoding, parseEncoding } from "../decode/encoding.ts";
import type { Machine } from "../system/machine.ts";
import type { Instruction } from "./instruction.ts";
import type { Ops } from "./ops.ts";

/**
 * An instruction's meaning: emits code through `o` for the operands of `i`. Called once for every handler of the
 * interpreter and once for every translated instruction; what it does at call time must depend on `i` alone.
 */
export type Semantics = (o: Ops, i: Instruction) => void;

/** A system instruction's meaning, executed by the host program while the vcpu is out of generated code. */
export type SystemSemantics = (m: Machine, d: Decoded) => void;

export interface InstructionDef {
  readonly id: number;
  readonly name: string;
  readonly encodings: readonly Encoding[];
  readonly semantics: Semantics | undefined;
  readonly system: SystemSemantics | undefined;
  /** LOCK is allowed with a memory destination. */
  readonly lockable: boolean;
  /** Control may go elsewhere than to the next instruction: ends a trace, except for conditional branches. */
  readonly ends: boolean;
}

/** Every instruction the engine has, in order of definition. */
export const instructions: InstructionDef[] = [];

interface Traits {
  readonly lockable?: boolean;
  readonly ends?: boolean;
  /** What `Ops.leaveToHost` runs. */
  readonly system?: SystemSemantics;
}

function add(
  name: string,
  encodings: readonly string[],
  traits: Traits,
  semantics?: Semantics,
  system?: SystemSemantics,
): void {
  instructions.push({
    id: instructions.length,
    name,
    encodings: encodings.map(parseEncoding),
    semantics,
    system,
    lockable: traits.lockable ?? false,
    ends: traits.ends ?? false,
  });
}

/** Defines an instruction by code that it emits. */
export function define(
  name: string,
  encodings: string | readonly string[],
  semantics: Semantics,
  traits: Traits = {},
): void {
  add(name, typeof encodings === "string" ? [encodings] : encodings, traits, semantics, traits.system);
}

/** Defines an instruction that the host program executes: privileged, rare, or a change of mode. It ends its trace. */
export function defineSystem(name: string, encodings: string | readonly string[], system: SystemSemantics): void {
  add(name, typeof encodings === "string" ? [encodings] : encodings, { ends: true }, undefined, system);
}
