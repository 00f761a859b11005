/** What a domain may be given while it runs, and when not. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { RunningDomain } from "../domain/index.ts";
import { tinyConfig } from "../testing/tiny-domain.ts";
import { LiveSettings } from "./live-settings.ts";
import { ControlError } from "./protocol.ts";

/** A domain that does what it is told, and notes that. */
function domain({ isMoving = false } = {}) {
  const told: unknown[] = [];
  const running = {
    limitMemory: (bytes: number) => void told.push(["limit", bytes]),
    setCap: (percent: number) => void told.push(["cap", percent]),
    setWeight: async (weight: number) => void told.push(["weight", weight]),
  } as unknown as RunningDomain;
  const settings = new LiveSettings(
    { ...tinyConfig("kernel"), name: "web", memoryMib: 64, vcpus: 2 },
    {
      running: () => running,
      home: () => "/local/domain/3",
      write: (path, value) => void told.push([path, value]),
      record: (cause) => void told.push(["record", cause]),
      log: () => {},
      refuseEnded: () => {},
      refuseMoving: () => {
        if (isMoving) throw new ControlError("conflict", "it moves");
      },
    },
  );
  return { settings, told };
}

const CHANGES: readonly [string, (settings: LiveSettings) => unknown][] = [
  ["its name", (settings) => settings.rename("shop")],
  ["its memory", (settings) => settings.setMemory(32 << 20)],
  ["its vcpus", (settings) => settings.setVcpus(1)],
  ["its cap", (settings) => settings.setCap(50)],
  ["its weight", (settings) => settings.setWeight(128)],
  ["its processors", (settings) => settings.pinVcpus("all", "0")],
  ["its disks", (settings) => settings.attachDisk("disk.img,raw,xvdb")],
  ["its interfaces", (settings) => settings.attachVif("")],
];

describe("a domain that moves", () => {
  for (const [what, change] of CHANGES)
    test(`keeps ${what} as the other server was told`, async () => {
      const { settings, told } = domain({ isMoving: true });
      const before = JSON.stringify(settings.spec);
      await assert.rejects(async () => change(settings), /it moves/);
      assert.deepEqual([JSON.stringify(settings.spec), told], [before, []]);
    });
});

describe("a domain that stays", () => {
  test("has what it was given, and is described so to wherever it goes", async () => {
    const { settings, told } = domain();
    settings.rename("shop");
    settings.setMemory(32 << 20);
    settings.setVcpus(1);
    settings.setCap(50);
    await settings.setWeight(128);
    const { name, memoryAtStartMib, vcpusAtStart, cap, weight } = settings.config;
    assert.deepEqual([memoryAtStartMib, vcpusAtStart, cap, weight], [32, 1, 50, 128]);
    assert.deepEqual([name, settings.name, settings.vcpusWanted], ["web", "shop", 1]);
    assert.equal(settings.memoryTargetBytes, 32 << 20);
    assert.deepEqual(told, [
      ["/local/domain/3/name", "shop"],
      [`/vm/${settings.config.uuid}/name`, "shop"],
      ["record", "memory"],
      ["limit", 32 << 20],
      ["/local/domain/3/memory/target", "32768"],
      ["record", "memory"],
      ["record", "vcpus"],
      ["/local/domain/3/cpu/0/availability", "online"],
      ["/local/domain/3/cpu/1/availability", "offline"],
      ["record", "vcpus"],
      ["cap", 50],
      ["weight", 128],
    ]);
  });

  for (const [what, change] of [
    ["more memory than it may have", (settings) => settings.setMemory(65 << 20)],
    ["less than any guest needs", (settings) => settings.setMemory(3 << 20)],
    ["no vcpu", (settings) => settings.setVcpus(0)],
    ["more vcpus than it has", (settings) => settings.setVcpus(3)],
    ["a cap below nothing", (settings) => settings.setCap(-1)],
  ] as const satisfies readonly (readonly [string, (settings: LiveSettings) => void])[])
    test(`is not given ${what}`, () => {
      const { settings, told } = domain();
      const before = JSON.stringify(settings.spec);
      assert.throws(() => change(settings), /expected/);
      assert.deepEqual([JSON.stringify(settings.spec), told], [before, []]);
    });
});
