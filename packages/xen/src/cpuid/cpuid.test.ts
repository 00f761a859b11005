import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { CpuidLeaf } from "@xenoserver/cpu";
import { cpuidLeaves } from "./table.ts";

const leaves = cpuidLeaves({ domid: 7, vcpuId: 3, nrVcpus: 4 });
const find = (leaf: number, subleaf?: number): CpuidLeaf => {
  const found = leaves.find((entry) => entry.leaf === leaf && (entry.subleaf ?? 0) === (subleaf ?? 0));
  assert.ok(found, `leaf ${leaf.toString(16)}`);
  return found;
};
const has = (word: number, bit: number): boolean => ((word >>> bit) & 1) === 1;

describe("what a domain is told of its processor", () => {
  test("Xen's leaves say who is there and which vcpu asks", () => {
    const { eax, ebx, ecx, edx } = find(0x40000000);
    const signature = Buffer.from(Uint32Array.of(ebx, ecx, edx).buffer).toString();
    assert.equal(signature, "XenVMMXenVMM");
    assert.equal(eax, 0x40000005);
    assert.equal(find(0x40000001).eax, 0x40011);
    assert.equal(find(0x40000002).ebx, 0x40000000);
    assert.equal(find(0x40000003, 0).ecx, 1_000_000);
    const hvm = find(0x40000004, 0);
    assert.deepEqual([hvm.ebx, hvm.ecx], [3, 7]);
    assert.ok(has(hvm.eax, 3) && has(hvm.eax, 4) && !has(hvm.eax, 6));
  });

  test("APIC ids are two apart, in every place that names them", () => {
    assert.equal(find(1).ebx >>> 24, 6);
    for (const subleaf of [0, 1, 2]) assert.equal(find(0xb, subleaf).edx, 6);
    assert.equal(find(0xb, 1).eax, 3, "ids of a package differ in three bits");
    assert.equal(find(0xb, 2).ecx >>> 8, 0, "no third level");
  });

  test("the frequency is in leaf 0x16, so that nobody times a PIT", () => {
    assert.equal(find(0).eax, 0x16);
    assert.equal(Buffer.from(Uint32Array.of(find(0).ebx, find(0).edx, find(0).ecx).buffer).toString(), "GenuineIntel");
    assert.equal(find(0x16).eax, 1000);
    assert.equal(find(0x15).ecx, 1e9);
  });

  test("the model is one that kernels know not to speculate", () => {
    const { eax } = find(1);
    const family = (eax >>> 8) & 15;
    const model = ((eax >>> 4) & 15) | (((eax >>> 16) & 15) << 4);
    assert.deepEqual([family, model], [6, 0x36]);
  });

  test("no vector extension beyond SSE4.2 is offered", () => {
    const { ecx } = find(1);
    for (const [bit, name] of [
      [12, "fma"],
      [22, "movbe"],
      [28, "avx"],
      [27, "osxsave"],
      [29, "f16c"],
    ] as const) {
      assert.ok(!has(ecx, bit), name);
    }
    for (const bit of [0, 1, 9, 13, 17, 19, 20, 21, 23, 25, 26, 30, 31]) assert.ok(has(ecx, bit), `ecx ${bit}`);
    assert.equal(find(7, 0).ebx, (1 << 0) | (1 << 7) | (1 << 9) | (1 << 20));
    assert.equal(find(0xd, 0).eax, 3);
    assert.equal(find(0xd, 0).ebx, 576);
  });

  test("64-bit mode, no-execute, 1 GiB pages and an invariant TSC", () => {
    const { edx } = find(0x80000001);
    for (const bit of [11, 20, 26, 27, 29]) assert.ok(has(edx, bit), `edx ${bit}`);
    assert.ok(has(find(0x80000007).edx, 8));
    assert.equal(find(0x80000008).eax, 39 | (48 << 8));
  });
});
