/** What cannot be run is refused before anything is started: one sentence that names the file and what was expected. */
import assert from "node:assert/strict";
import { truncateSync } from "node:fs";
import { describe, test } from "node:test";
import { helloGuest } from "@xenoserver/testkit";
import { ConfigError, type DomainConfig } from "../cfg/index.ts";
import { tinyConfig, withFile } from "../testing/tiny-domain.ts";
import { launchDomain } from "./launch.ts";
import { describePlan, planDomain } from "./plan.ts";

const kernel = helloGuest();

/** The kernel with one change to a copy of it. */
function changed(change: (bytes: Buffer) => void): Uint8Array {
  const copy = Buffer.from(kernel);
  change(copy);
  return copy;
}

async function refused(bytes: Uint8Array, message: RegExp, changes: Partial<DomainConfig> = {}): Promise<void> {
  await withFile(bytes, (path) =>
    assert.rejects(
      async () => launchDomain(tinyConfig(path, changes), { onConsole: () => {} }),
      (error: unknown) => {
        assert.ok(error instanceof ConfigError, String(error));
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /\n|undefined|\[object/);
        return true;
      },
    ),
  );
}

describe("kernels", () => {
  test("an empty file", () => refused(new Uint8Array(), /kernel .*: file is empty/));
  test("text", () =>
    refused(Buffer.from("#!/bin/sh\nexit\n"), /starts with 23212f62.*expected an ELF file or a bzImage/));
  test("noise", () => refused(Buffer.alloc(70_000, 0xa5), /expected an ELF file or a bzImage/));
  test("without a PVH note", () =>
    refused(
      changed((bytes) => bytes.write("Yen", bytes.indexOf("Xen\0"), "latin1")),
      /64-bit x86-64 image has no PVH entry note/,
    ));
  test("for another machine", () =>
    refused(
      changed((bytes) => bytes.writeUInt16LE(0xb7, 18)), // AArch64
      /is built for machine .*expected x86-64/,
    ));
  test("cut off, wherever", async () => {
    for (const length of [8, 63, 120, 500, kernel.length - 1]) {
      await refused(
        kernel.subarray(0, length),
        /kernel .*(file is \d+ bytes|truncated|damaged|ends at|lies at|header)/,
      );
    }
  });
});

describe("sizes", () => {
  test("memory that ends below the kernel", () => refused(kernel, /memory|kernel/, { memoryMib: 8 }));
  test("memory that no domain can have", async () => {
    await refused(kernel, /memory 1 MiB: kernel needs 17 MiB, expected more/, { memoryMib: 1 });
    await refused(kernel, /memory is 1000000 MiB, which this machine cannot reserve/, { memoryMib: 1_000_000 });
    await refused(kernel, /memory 0\.5 MiB: kernel needs 17 MiB, expected more/, { memoryMib: 0.5 });
  });
  test("a ramdisk larger than memory", () =>
    withFile(Buffer.alloc(40 << 20), (ramdisk) =>
      refused(kernel, /ramdisk of 40 MiB: expected less than the 32 MiB of memory/, { ramdisk }),
    ));
  test("a command line that the kernel would cut", () =>
    refused(kernel, /command line/, { cmdline: "x".repeat(5000) }));
  test("more than this machine can reserve", () =>
    refused(kernel, /memory is 32 MiB, which this machine cannot reserve/, { vcpus: 1000 }));
});

describe("files", () => {
  const sentence = (config: DomainConfig, message: RegExp): void =>
    assert.throws(
      () => planDomain(config),
      (error) => error instanceof ConfigError && message.test(error.message),
    );
  test("a kernel that is not there, or a folder", () => {
    sentence(tinyConfig("/nowhere/kernel"), /^kernel \/nowhere\/kernel: no such file$/);
    sentence(tinyConfig("/"), /^kernel \/: is no regular file$/);
  });
  test("a ramdisk that is not there, or a folder", () =>
    withFile(kernel, (path) => {
      sentence(tinyConfig(path, { ramdisk: "/nowhere" }), /^ramdisk \/nowhere: no such file$/);
      sentence(tinyConfig(path, { ramdisk: "/dev/null" }), /^ramdisk \/dev\/null: is no regular file$/);
    }));
  test("a ramdisk that becomes shorter before it is read", () =>
    withFile(kernel, (path) =>
      withFile(Buffer.alloc(5000, 7), (ramdisk) => {
        const { content } = planDomain(tinyConfig(path, { ramdisk })).modules[0]!;
        const target = new Uint8Array(5000);
        content.copyTo(target, 0);
        assert.deepEqual(target, new Uint8Array(5000).fill(7));
        truncateSync(ramdisk, 4000);
        assert.throws(
          () => content.copyTo(target, 0),
          (error) =>
            error instanceof ConfigError && /^ramdisk \S+: ends after 4000 bytes, expected 5000/.test(error.message),
        );
        content.release();
      }),
    ));
});

test("a plan is described in the words of xl.cfg", () =>
  withFile(kernel, (path) => {
    const text = describePlan(planDomain(tinyConfig(path, { cmdline: "a b", memoryMib: 64 })));
    assert.match(text, /^kernel = ".*" {2}# elf, 64-bit ELF, PVH entry 0x1000000$/m);
    assert.match(text, /^cmdline = "a b"$/m);
    assert.match(text, /^memory = 64$/m);
  }));
