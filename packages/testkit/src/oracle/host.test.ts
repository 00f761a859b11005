import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { assemble, eax, qword, rax, rcx, rsp } from "../asm/index.ts";
import { background, CODE_BASE, initialScratch, makeCase, SCRATCH_BASE, SCRATCH_BYTES, Vector } from "./case.ts";
import { HostCpu } from "./host.ts";
import { checkAnswer, KNOWN_ANSWERS } from "./known/index.ts";

const skip = HostCpu.available() ? false : "needs an x86-64 Linux host";

describe("the host CPU gives the answers of the manuals", { skip }, () => {
  const results = skip ? [] : new HostCpu().run(KNOWN_ANSWERS.map((k) => k.testCase));
  KNOWN_ANSWERS.forEach((answer, i) => {
    const skipped = answer.testCase.bits === 32 ? (HostCpu.no32() ?? false) : false;
    it(answer.name, { skip: skipped }, () => assert.deepEqual(checkAnswer(answer, results[i]), []));
  });
});

describe("the host CPU as an engine", { skip }, () => {
  const host = skip ? undefined : new HostCpu();
  const run = (...cases: Parameters<HostCpu["run"]>[0]) => host!.run(cases);

  it("ends a loop that does not end, and goes on", () => {
    const [endless, next] = run(
      makeCase({ code: assemble(64, (a) => a.label("self").jmp("self")) }),
      makeCase({ code: assemble(64, (a) => a.mov(eax, 1)) }),
    );
    assert.equal(endless.kind, "timeout");
    assert.equal(endless.rip, BigInt(CODE_BASE));
    assert.equal(next.gprs[0], 1n);
  });

  it("keeps the flags that the kernel's signal return forgets", { skip: HostCpu.no32() ?? false }, () => {
    // Long enough for several ticks of the guard to interrupt it.
    const code = assemble(64, (a) => a.mov(rcx, 4_000_000).label("again").dec(rcx).jcc("nz", "again"));
    const results = run(...Array.from({ length: 8 }, () => makeCase({ code, rflags: 0x20_4000 })));
    for (const r of results) if (r.kind === "trap") assert.equal(r.rflags & 0x20_4000, 0x20_4000);
  });

  it("stops system calls", () => {
    const [r] = run(makeCase({ code: assemble(64, (a) => a.mov(eax, 231).syscall()) }));
    assert.equal(r.kind, "syscall");
  });

  it("starts every case from the same memory", () => {
    const write = makeCase({
      code: assemble(64, (a) => a.mov(qword(rsp), rsp).mov(qword(SCRATCH_BASE + SCRATCH_BYTES - 8), rax)),
    });
    const read = makeCase({
      code: assemble(64, (a) => a.mov(rax, qword(rsp)).mov(rcx, qword(SCRATCH_BASE + SCRATCH_BYTES - 8))),
    });
    const [, r] = run(
      { ...write, memory: [{ offset: SCRATCH_BYTES / 2, bytes: new Uint8Array(16).fill(0xee) }] },
      read,
    );
    const words = new BigUint64Array(background().buffer);
    assert.equal(r.gprs[0], words[SCRATCH_BYTES / 16]);
    assert.equal(r.gprs[1], words.at(-1));
    assert.deepEqual(r.memory, []);
  });

  it("reports changed memory in chunks of 64 bytes", () => {
    const c = makeCase({
      code: assemble(64, (a) => a.mov(qword(SCRATCH_BASE + 60), rax)),
      gprs: { 0: 0x1122334455667788n },
    });
    const [r] = run(c);
    assert.deepEqual(
      r.memory.map((chunk) => chunk.offset),
      [0, 64],
    );
    const expected = initialScratch(c);
    new DataView(expected.buffer).setBigUint64(60, 0x1122334455667788n, true);
    assert.deepEqual(r.memory[0].bytes, expected.slice(0, 64));
    assert.deepEqual(r.memory[1].bytes, expected.slice(64, 128));
  });

  it("runs the new code where old code was, at once", () => {
    const cases = Array.from({ length: 200 }, (_, i) => makeCase({ code: assemble(64, (a) => a.mov(eax, i)) }));
    run(...cases).forEach((r, i) => {
      assert.equal(r.gprs[0], BigInt(i));
    });
  });

  it("single-steps where a case starts with TF", () => {
    const [r] = run(makeCase({ code: assemble(64, (a) => a.mov(eax, 1).mov(eax, 2)), rflags: 0x100 }));
    assert.deepEqual([r.vector, r.rip, r.gprs[0]], [Vector.DB, BigInt(CODE_BASE + 5), 1n]);
  });

  it("survives garbage", () => {
    let x = 1;
    const cases = Array.from({ length: 5000 }, () => {
      const code = Uint8Array.from({ length: 24 }, () => {
        x = (Math.imul(x, 1103515245) + 12345) >>> 0;
        return x >>> 16;
      });
      return makeCase({ code });
    });
    assert.equal(run(...cases).length, cases.length);
  });
});
