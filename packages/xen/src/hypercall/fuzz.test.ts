import assert from "node:assert/strict";
import { test } from "node:test";
import { Gpr } from "@xenoserver/cpu";
import fc from "fast-check";
import { BlockKind, VcpuField } from "../domain/layout.ts";
import { SCRATCH, TestDomain } from "../testing/test-domain.ts";
import { executeHypercall } from "./dispatch.ts";

/** Numbers that hypercalls care about, and any others. */
const anyNumber = fc.oneof(
  fc.integer({ min: 0, max: 64 }),
  fc.constantFrom(SCRATCH, SCRATCH + 0xffc, 0x7ff0, 0xa0000, 0xffffffff, 0x80000000, 0xfeffc, 0x3ff000),
  fc.nat(0xffffffff),
);
const anyHigh = fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, fc.nat(0xffffffff));
const anyCall = fc.record({
  number: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max: 45 }) }, fc.nat(0xffffffff)),
  lows: fc.array(anyNumber, { minLength: 6, maxLength: 6 }),
  highs: fc.array(anyHigh, { minLength: 6, maxLength: 6 }),
  struct: fc.array(anyNumber, { minLength: 12, maxLength: 12 }),
  is64: fc.boolean(),
});

test("20,000 random hypercalls neither throw nor hang, and their log stays short", () => {
  const guest = new TestDomain();
  const registers = [Gpr.rdi, Gpr.rsi, Gpr.rdx, Gpr.r10, Gpr.r8, Gpr.r9, Gpr.rbx, Gpr.rcx, Gpr.rbp];
  fc.assert(
    fc.property(anyCall, ({ number, lows, highs, struct, is64 }) => {
      const vcpu = guest.vcpus[0];
      vcpu.is64 = is64;
      registers.forEach((r, n) => vcpu.setGpr(r, lows[n % 6], highs[n % 6]));
      // Half of the calls point their structure argument at the scratch page.
      if ((lows[5] & 1) === 0) for (const r of [Gpr.rsi, Gpr.rdx, Gpr.rcx]) vcpu.setGpr(r, SCRATCH, 0);
      vcpu.setGpr(Gpr.rax, number, 0);
      guest.poke(SCRATCH, struct);
      executeHypercall(guest.context());
      guest.domain.vcpus[0].set(VcpuField.block, BlockKind.none);
    }),
    { numRuns: 20_000, interruptAfterTimeLimit: 60_000, markInterruptAsFailure: true },
  );
  assert.ok(guest.logs.length <= 200);
});
