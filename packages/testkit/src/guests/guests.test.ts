import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import * as guests from "./index.ts";

const MODES = [32, 64] as const;
const ALL: Readonly<Record<string, (mode: guests.GuestMode) => Uint8Array>> = {
  hello: guests.helloGuest,
  shutdown: (mode) => guests.shutdownGuest(guests.ShutdownReason.crash, mode),
  "triple fault": guests.tripleFaultGuest,
  spin: guests.spinGuest,
  halt: guests.haltGuest,
  "port scan": guests.portScanGuest,
  "absent memory": guests.absentMemoryGuest,
  "hypercall fuzzer": (mode) => guests.hypercallFuzzerGuest({ seed: 1, mode }),
  garbage: (mode) => guests.garbageGuest({ seed: 1, mode }),
};

describe("guests are PVH kernels", () => {
  for (const [name, build] of Object.entries(ALL)) {
    for (const mode of MODES) {
      it(`${name}, ${mode}-bit`, () => {
        const elf = build(mode);
        const view = new DataView(elf.buffer);
        assert.equal(view.getUint32(0), 0x7f454c46);
        assert.equal(view.getUint16(56, true), 2, "program headers: image and note");
        assert.equal(view.getBigUint64(64 + 24, true), BigInt(guests.LOAD_ADDRESS));
        assert.ok(Number(view.getBigUint64(64 + 40, true)) === guests.Area.end - guests.LOAD_ADDRESS);
        assert.deepEqual(build(mode), elf, "the same bytes every time");
      });
    }
  }
  it("differ by seed", () => {
    assert.notDeepEqual(guests.hypercallFuzzerGuest({ seed: 1 }), guests.hypercallFuzzerGuest({ seed: 2 }));
  });
});

/**
 * QEMU is no Xen, so only what needs no hypercall can be seen there: that the image starts, reaches its mode and speaks.
 * @returns what the guest wrote to the debug port before it triple-faulted, or undefined without QEMU
 */
function runInQemu(elf: Uint8Array): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "guest-"));
  try {
    const path = join(folder, "kernel");
    writeFileSync(path, elf);
    const options = "-M microvm,acpi=off -accel tcg -m 64 -nodefaults -display none -no-reboot -chardev stdio,id=out";
    const args = [...options.split(" "), "-device", "isa-debugcon,iobase=0xe9,chardev=out", "-kernel", path];
    const child = spawnSync("qemu-system-x86_64", args, { timeout: 60_000, stdio: ["ignore", "pipe", "ignore"] });
    return child.error === undefined ? child.stdout.toString() : undefined;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("a guest in QEMU", () => {
  for (const mode of MODES) {
    it(`starts in ${mode}-bit mode and triple-faults`, (t) => {
      const said = runInQemu(guests.tripleFaultGuest(mode));
      if (said === undefined) t.skip("QEMU is not installed");
      else assert.equal(said, "about to triple fault\n");
    });
  }
});
