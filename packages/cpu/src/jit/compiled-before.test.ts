import assert from "node:assert/strict";
import { it } from "node:test";
import { eax } from "@xenoserver/testkit";
import { BareMachine, CODE } from "../testing/bare-machine.ts";
import { guest } from "../testing/every-mode.ts";
import { type CompiledRegions, RegionCompiler } from "./region-compiler.ts";

it("what was compiled for one vcpu is given to another once, while the code is the same", () => {
  const m = new BareMachine("never", 2).load(
    CODE,
    guest((a) => a.label("again").add(eax, 1).jmp("again")),
  );
  const frame = m.memory.frameAt((CODE / 4096) as never);
  const compiler = new RegionCompiler(m.memory);
  const compileFor = (vcpuId: number): CompiledRegions => {
    const spots = [{ page: CODE, frame, offset: 0 }];
    const answers = compiler.compile({ vcpuId, spots, pageTables: m.machine.pageTables, reach: "unseen" });
    assert.equal(answers.length, 1);
    return answers[0]!;
  };
  const first = compileFor(0);
  assert.equal(compileFor(1).module, first.module);
  // Whoever asks again had it, and lost it.
  assert.notEqual(compileFor(1).module, first.module);
  const second = compileFor(0);
  m.memory.write((CODE + 2) as never, Uint8Array.of(2));
  assert.notEqual(compileFor(1).module, second.module);
});
