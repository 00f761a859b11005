/** The limit of CS in 32-bit code. What is expected of branches and of running past the end was seen on an AMD processor. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CODE_BASE, makeCase, SCRATCH_BASE, type TestResult, Vector } from "@xenoserver/testkit";
import { CaseEngine, type SegmentLimit } from "../testing/case-engine.ts";

const CS = 1;
/** 32-bit code, readable. */
const CODE = 0xcfb;
const ESP = SCRATCH_BASE + 0x800;
const NOP = 0x90;
const le32 = (n: number) => [n, n >> 8, n >> 16, n >> 24].map((byte) => byte & 0xff);

/** Runs code at an offset of a segment that begins where the code's pages do; all around it are NOPs. */
function run(engine: CaseEngine, at: number, code: readonly number[], registers: Record<number, number> = {}) {
  const bytes = new Uint8Array(8192).fill(NOP);
  bytes.set(code, at);
  const gprs = Object.fromEntries(Object.entries({ 4: ESP, ...registers }).map(([r, v]) => [r, BigInt(v)]));
  const start = [0xe9, ...le32(at - 5)];
  if (at !== 0) bytes.set(start, 0);
  return engine.run([makeCase({ bits: 32, code: bytes, gprs })])[0];
}
const inCode = (limit: number): SegmentLimit => ({ segment: CS, base: CODE_BASE, limit, attr: CODE });
/** The case engine's code begins at the linear address; instruction pointers are offsets in CS. */
function faultOf(limit: number, at: number, code: readonly number[], registers?: Record<number, number>): TestResult {
  return run(new CaseEngine("never", [inCode(limit)]), at, code, registers);
}
function faultsAt(ip: number, result: TestResult): void {
  assert.deepEqual(
    { kind: result.kind, vector: result.vector, errorCode: result.errorCode, ip: Number(result.rip) },
    { kind: "trap", vector: Vector.GP, errorCode: 0, ip },
  );
}

describe("the limit of CS", () => {
  it("is found by branches, before they change anything", () => {
    const far = 0x1f0;
    const branches: [string, number[]][] = [
      ["JMP rel32", [0xe9, ...le32(far)]],
      ["JMP rel8", [0xeb, 0x7e]],
      ["JE", [0x74, 0x7e]],
      ["CALL rel32", [0xe8, ...le32(far)]],
      ["CALL reg", [0xff, 0xd0]],
      ["JMP reg", [0xff, 0xe0]],
      ["LOOP", [0xe2, 0x7e]],
      ["JECXZ", [0xe3, 0x7e]],
    ];
    for (const [name, bytes] of branches) {
      const count = name === "JECXZ" ? 0 : 2;
      // CMP EAX, EAX sets ZF for the conditional one.
      const result = faultOf(0xff, 0x90, [0x39, 0xc0, ...bytes], { 0: 0x100, 1: count });
      faultsAt(0x92, result);
      assert.equal(Number(result.gprs[4]), ESP, name);
      assert.equal(Number(result.gprs[1]), count, name);
      assert.deepEqual(result.memory, [], name);
    }
  });
  it("is found by a return, which leaves the stack pointer", () => {
    for (const ret of [[0xc3], [0xc2, 8, 0]]) {
      const result = faultOf(0xff, 0x40, [0x68, ...le32(0x100), ...ret]);
      faultsAt(0x45, result);
      assert.equal(Number(result.gprs[4]), ESP - 4);
    }
  });
  it("lets branches go up to it", () => {
    const result = faultOf(0xff, 0x90, [0xe9, ...le32(0xff - 0x95)]);
    faultsAt(0x100, result);
  });
  it("stops what runs past it, within a page and at its end", () => {
    faultsAt(0x100, faultOf(0xff, 0xf0, [NOP]));
    faultsAt(0x1000, faultOf(0xfff, 0xff0, [NOP]));
  });
  it("stops an instruction that is not wholly within", () => {
    const mov = [0xb8, 1, 2, 3, 4];
    faultsAt(0xfd, faultOf(0xff, 0xfd, mov));
    faultsAt(0xffd, faultOf(0xfff, 0xffd, mov));
    faultsAt(0xffd, faultOf(0x1000, 0xffd, mov));
    const whole = faultOf(0x1001, 0xffd, mov);
    faultsAt(0x1002, whole);
    assert.equal(Number(whole.gprs[0]), 0x04030201);
  });
  it("goes with the segment: the same page is run by one and refused by another", () => {
    const limits = [inCode(0xff)];
    const engine = new CaseEngine("never", limits);
    const walk = [0xeb, 0x10];
    faultsAt(0x100, run(engine, 0, walk));
    limits[0] = inCode(0x17f);
    faultsAt(0x180, run(engine, 0, walk));
    limits[0] = inCode(0xff);
    faultsAt(0x100, run(engine, 0, walk));
    limits[0] = { ...inCode(-1), base: 0 };
    assert.equal(run(engine, 0, [0xcc]).vector, Vector.BP);
  });
  it("counts from the base", () => {
    const limits: SegmentLimit[] = [{ ...inCode(0x7ff), base: CODE_BASE - 0x700 }];
    const result = run(new CaseEngine("never", limits), 0, [NOP]);
    faultsAt(0x800, result);
  });
});
