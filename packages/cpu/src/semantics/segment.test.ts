/** Limits and rights of segments in 32-bit code. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Assembler, CODE_BASE, makeCase, SCRATCH_BASE, Vector } from "@xenoserver/testkit";
import { CaseEngine, type SegmentLimit } from "../testing/case-engine.ts";

const [ES, SS, DS] = [0, 2, 3];
/** 32-bit user data, 4 KiB granular; and the same read-only, and growing down. */
const [DATA, READ_ONLY, EXPAND_DOWN, ABSENT] = [0xcf3, 0xcf1, 0xcf7, 0xc73];
/** The last byte of the first page of scratch memory. */
const LAST = SCRATCH_BASE + 0xfff;
const MOV_EAX_FROM_EBX = [0x8b, 0x03];
const MOV_EBX_FROM_EAX = [0x89, 0x03];
const [PUSH_EAX, POP_EAX] = [0x50, 0x58];

interface Outcome {
  readonly vector: number;
  readonly errorCode: number;
  /** Offset of the instruction that faulted. */
  readonly at: number;
  readonly esp: number;
}

function run(limit: SegmentLimit | undefined, code: readonly number[], registers: Record<number, number>): Outcome {
  const engine = new CaseEngine("never", limit ? [limit] : []);
  const a = new Assembler({ mode: 32, origin: CODE_BASE });
  a.db(...code);
  const gprs = Object.fromEntries(Object.entries(registers).map(([reg, value]) => [reg, BigInt(value)]));
  const [result] = engine.run([makeCase({ bits: 32, code: a.bytes(), gprs })]);
  assert.equal(result.kind, "trap");
  return {
    vector: result.vector,
    errorCode: result.errorCode,
    at: Number(result.rip) - CODE_BASE,
    esp: Number(result.gprs[4]),
  };
}

/** #GP or #SS with error code 0 at the first instruction, with the stack pointer as before. */
function faults(vector: number, limit: SegmentLimit, code: readonly number[], registers: Record<number, number>): void {
  const esp = SCRATCH_BASE + 0x800;
  const outcome = run(limit, code, { 4: esp, ...registers });
  assert.deepEqual(outcome, { vector, errorCode: 0, at: 0, esp: registers[4] ?? esp });
}
function passes(limit: SegmentLimit, code: readonly number[], registers: Record<number, number>): void {
  const outcome = run(limit, code, { 4: SCRATCH_BASE + 0x800, ...registers });
  assert.equal(outcome.vector, Vector.BP);
  assert.equal(outcome.at, code.length + 1);
}

describe("segments of 32-bit code", () => {
  const dataLimit = { segment: DS, limit: LAST, attr: DATA };
  it("allow the last bytes within the limit, and none behind it", () => {
    passes(dataLimit, MOV_EAX_FROM_EBX, { 3: LAST - 3 });
    faults(Vector.GP, dataLimit, MOV_EAX_FROM_EBX, { 3: LAST - 2 });
    faults(Vector.GP, dataLimit, MOV_EBX_FROM_EAX, { 3: LAST - 2 });
    faults(Vector.GP, dataLimit, MOV_EAX_FROM_EBX, { 3: LAST + 1 });
  });
  it("that are read-only refuse writes", () => {
    const readOnly = { segment: DS, limit: -1, attr: READ_ONLY };
    passes(readOnly, MOV_EAX_FROM_EBX, { 3: SCRATCH_BASE });
    faults(Vector.GP, readOnly, MOV_EBX_FROM_EAX, { 3: SCRATCH_BASE });
  });
  it("that are not present refuse everything", () => {
    faults(Vector.GP, { segment: DS, limit: -1, attr: ABSENT }, MOV_EAX_FROM_EBX, { 3: SCRATCH_BASE });
  });
  it("that grow down allow what lies above the limit", () => {
    const down = { segment: DS, limit: LAST, attr: EXPAND_DOWN };
    passes(down, MOV_EAX_FROM_EBX, { 3: LAST + 1 });
    faults(Vector.GP, down, MOV_EAX_FROM_EBX, { 3: LAST });
  });
  it("of the stack raise #SS for pushes and pops, and leave the pointer", () => {
    const stack = { segment: SS, limit: LAST, attr: DATA };
    passes(stack, [PUSH_EAX, POP_EAX], { 4: LAST + 1 });
    faults(Vector.SS, stack, [POP_EAX], { 4: LAST - 2 });
    faults(Vector.SS, stack, [PUSH_EAX], { 4: LAST + 3 });
    const down = { segment: SS, limit: LAST, attr: EXPAND_DOWN };
    passes(down, [PUSH_EAX, POP_EAX], { 4: LAST + 9 });
    faults(Vector.SS, down, [PUSH_EAX], { 4: LAST + 4 });
  });
  it("of the stack raise #SS for operands based on it", () => {
    faults(Vector.SS, { segment: SS, limit: LAST, attr: DATA }, [0x8b, 0x45, 0x00], { 5: LAST + 1 });
  });
  it("limit what system instructions push and pop", () => {
    // IRET pops more than is within the limit.
    faults(Vector.SS, { segment: SS, limit: LAST, attr: DATA }, [0xcf], { 4: LAST - 3 });
  });
  it("limit string instructions, element by element", () => {
    const to = { segment: ES, limit: LAST, attr: DATA };
    const outcome = run(to, [0xf3, 0xab], { 1: 10, 7: LAST + 1 - 16, 4: SCRATCH_BASE + 0x800 });
    assert.deepEqual([outcome.vector, outcome.at], [Vector.GP, 0]);
    faults(Vector.GP, { segment: ES, limit: -1, attr: READ_ONLY }, [0xaa], { 7: SCRATCH_BASE });
    passes({ segment: ES, limit: -1, attr: READ_ONLY }, [0xae], { 7: SCRATCH_BASE });
  });
});
