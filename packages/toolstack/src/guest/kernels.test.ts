/** Debian's own kernels, one of each release and compression. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { type Compression, loadKernelImage } from "@xenoserver/xen/builder/image/index.ts";
import { findInDeb } from "../deb/deb.ts";
import { fetchKernel, type KernelFlavour } from "./kernel.ts";
import { openPackageSource } from "./open-source.ts";
import { PackageError } from "./package-source.ts";

const mirror = process.env["XENO_DEBIAN_MIRROR"];

async function sourceOf(suite: string) {
  const source = await openPackageSource({ suite, ...(mirror !== undefined && { mirror }) });
  await source.find("busybox-static");
  return source;
}

/** The source, or why there is none. A kernel that is there and cannot be read is a failure. */
const reachable = (suite: string) =>
  sourceOf(suite).catch((error: unknown) => {
    if (error instanceof PackageError) return error.message;
    throw error;
  });

const KERNELS: readonly [suite: string, flavour: KernelFlavour, release: RegExp, compression: Compression][] = [
  ["bullseye", "cloud", /^5\.10\./, "lz4"],
  ["bookworm", "cloud", /^6\.1\./, "lz4"],
  ["bookworm", "generic", /^6\.1\./, "xz"],
  ["trixie", "cloud", /^6\.12\./, "zstd"],
];

for (const [suite, flavour, release, compression] of KERNELS) {
  test(`Debian ${suite}'s ${flavour} kernel`, async (t) => {
    const source = await reachable(suite);
    if (typeof source === "string") return t.skip(source);
    const kernel = await fetchKernel(source, flavour, () => {});
    assert.match(kernel.release, release);
    const image = loadKernelImage(readFileSync(kernel.path), kernel.path);
    assert.equal(image.format, "bzImage");
    assert.equal(image.compression, compression);
    assert.equal(image.bits, 64);
    assert.equal(image.startGpa, 0x1000000);
    assert.ok(image.endGpa < 0x8000000);
  });
}

test("Debian's GRUB for PVH", async (t) => {
  const source = await reachable("bookworm");
  if (typeof source === "string") return t.skip(source);
  const deb = await source.download(await source.find("grub-xen-host"));
  const file = findInDeb(readFileSync(deb), "grub-xen-host", /\/grub-i386-xen_pvh\.bin$/);
  const image = loadKernelImage(file!.data, "grub");
  assert.deepEqual([image.format, image.bits, image.entry, image.startGpa], ["elf", 32, 0x100000, 0x100000]);
});
