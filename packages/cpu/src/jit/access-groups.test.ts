import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Assembler, eax, mem, rax, rbp, rbx, rcx, rdx, rsi, rsp } from "@xenoserver/testkit";
import "../semantics/index.ts";
import { Decoder } from "../decode/decoder.ts";
import { CodeMode } from "../state/layout.ts";
import { guest } from "../testing/every-mode.ts";
import { groupAccesses } from "./access-groups.ts";
import type { PlacedInstruction } from "./region.ts";

/** What is planned for each instruction, as "group+offset" with a w for groups that write, or "-". */
function plan(write: (a: Assembler) => void): string {
  const bytes = guest(write, 0);
  const decoder = new Decoder();
  const placed: PlacedInstruction[] = [];
  for (let place = 0; place < bytes.length; ) {
    const d = decoder.decode(bytes, place, bytes.length, CodeMode.code64 | CodeMode.stack32 | CodeMode.flat)!;
    placed.push({ d, place });
    place += d.lengthBytes;
  }
  return groupAccesses(placed)
    .map((a) => (a ? `${a.group.id}${a.group.isWrite ? "w" : ""}+${a.offset}` : "-"))
    .join(" ");
}

describe("accesses share a look into the TLB", () => {
  it("if they are at fixed distances from one register", () => {
    assert.equal(
      plan((a) =>
        a
          .mov(rax, mem(64, rbx, 8))
          .add(rax, mem(64, rbx, 24))
          .mov(rcx, mem(64, rdx)),
      ),
      "0+0 0+16 -",
    );
  });
  it("also after the register was moved by a known distance", () => {
    assert.equal(
      plan((a) =>
        a
          .push(rbx)
          .push(rcx)
          .mov(rbp, rsp)
          .sub(rsp, 16)
          .mov(rax, mem(64, rbp, -8))
          .lea(rsi, mem(64, rsp, 8)),
      ),
      "0w+16 0w+8 - - 0w+0 -",
    );
  });
  it("but not after it was loaded, or changed by what is not known", () => {
    assert.equal(
      plan((a) => a.mov(rbx, mem(64, rbx)).mov(rax, mem(64, rbx, 8))),
      "- -",
    );
    assert.equal(
      plan((a) => a.mov(rax, mem(64, rbx)).add(rbx, rcx).mov(rax, mem(64, rbx))),
      "- - -",
    );
    assert.equal(
      plan((a) => a.mov(rcx, mem(64, rax)).add(eax, 4).mov(rcx, mem(64, rax))),
      "- - -",
    );
  });
  it("but a write does not join those that read: the page would become dirty too early", () => {
    assert.equal(
      plan((a) =>
        a
          .mov(rax, mem(64, rbx))
          .mov(mem(64, rbx, 8), rax)
          .mov(rcx, mem(64, rbx, 16)),
      ),
      "- 0w+0 0w+8",
    );
  });
  it("but not with others far away", () => {
    assert.equal(
      plan((a) =>
        a
          .mov(rax, mem(64, rbx))
          .mov(rax, mem(64, rbx, 0x400))
          .mov(rax, mem(64, rbx, 0x408)),
      ),
      "- 0+0 0+8",
    );
  });
  it("but not over an instruction that may change how addresses are translated", () => {
    assert.equal(
      plan((a) =>
        a
          .mov(rax, mem(64, rbx))
          .db(0x0f, 0x01, 0x3b)
          .mov(rax, mem(64, rbx, 8)),
      ),
      "- - -",
    );
  });
});
