import assert from "node:assert/strict";
import { test } from "node:test";
import { configOf, formatCpuList, parseCpuList, resolveCpuList, specOfConfig } from "./index.ts";

const HOST = [0, 1, 2, 3, 5];
const cpusOf = (cpus: string | number | string[], more = {}) =>
  configOf({ kernel: "/k", vcpus: 3, ...more, cpus }, "t").config.cpus;

test("terms of a list count from left to right", () => {
  const lists: [written: string, cpus: number[]][] = [
    ["all", HOST],
    ["2", [2]],
    ["0-3,^1", [0, 2, 3]],
    ["^1,0-3", [0, 1, 2, 3]],
    ["all,^0-2", [3, 5]],
    ["0-3,^1-2,2", [0, 2, 3]],
    [" 5, 1 ,", [1, 5]],
  ];
  for (const [written, cpus] of lists) assert.deepEqual(resolveCpuList(parseCpuList(written), HOST), cpus, written);
});

test("a list is written as ranges, and read again as the same", () => {
  for (const [cpus, written] of [
    [[0], "0"],
    [[0, 1, 2], "0-2"],
    [HOST, "0-3,5"],
    [[1, 3, 5], "1,3,5"],
  ] as const) {
    assert.equal(formatCpuList(cpus), written);
    assert.deepEqual(resolveCpuList(written, HOST), cpus);
  }
});

test("what is no list is refused with what was expected", () => {
  const lists = ["", ",", "x", "1-", "-1", "3-1", "1 2", "^all", "1.5", "0x1", "65536", "0-99999999", "all-1"];
  for (const written of lists)
    assert.throws(() => parseCpuList(written), {
      message: `is ${JSON.stringify(written)}, expected processors such as "0-3,^1" or "all"`,
    });
  assert.throws(() => parseCpuList("nodes:0"), /is "nodes:0", and nodes are not supported yet, expected processors/);
});

test("a processor that the host does not have is refused, and so is none", () => {
  const there = "expected those that there are: 0-3,5";
  assert.throws(() => resolveCpuList("0-4", HOST), { message: `has processor 4, ${there}` });
  assert.throws(() => resolveCpuList("all,^7", HOST), { message: `has processor 7, ${there}` });
  assert.throws(() => resolveCpuList("0-1,^0-1", HOST), {
    message: '"0-1,^0-1" leaves no processor, expected one at least',
  });
});

test("one list is every vcpu's, a list of lists has one for each", () => {
  assert.deepEqual(cpusOf("0-1,^1"), ["0-1,^1", "0-1,^1", "0-1,^1"]);
  assert.deepEqual(cpusOf(2), ["2", "2", "2"]);
  assert.deepEqual(cpusOf(["0", "2-3"]), ["0", "2-3", "all"]);
  assert.deepEqual(cpusOf(["0", "1", "2", "3"]), ["0", "1", "2"]);
  assert.deepEqual(cpusOf("1", { vcpus: 1, maxvcpus: 2 }), ["1", "1"]);
  for (const free of ["all", ["all", "all"], []]) assert.equal(cpusOf(free), undefined);
  assert.throws(() => cpusOf(["0", "x"]), { message: /^t: cpus item 2 is "x", expected processors such as/ });
});

test("a configuration keeps its lists", () => {
  const { config } = configOf({ kernel: "/k", vcpus: 2, cpus: ["0-3,^1", "all"] }, "t");
  assert.deepEqual(configOf(specOfConfig(config), "t").config.cpus, ["0-3,^1", "all"]);
});
