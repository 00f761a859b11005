import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { StorageError } from "../error.ts";
import { detectFormat, openImage } from "../open.ts";
import { noQemu, qemuImg } from "../testing/qemu.ts";
import { pattern, readAll } from "../testing/store-suite.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-vhd-"));
after(() => rmSync(folder, { recursive: true }));

const SIZE = 8 << 20;
const disk = new Uint8Array(SIZE);
disk.set(pattern(0, 100, 1), 0);
disk.set(pattern(5000, 3000, 9), 5000 * 512);

for (const subformat of ["fixed", "dynamic"]) {
  test(`a ${subformat} image`, { skip: noQemu ?? false }, async () => {
    const [raw, path] = [join(folder, "disk.raw"), join(folder, `${subformat}.vhd`)];
    writeFileSync(raw, disk);
    await qemuImg("convert", "-O", "vpc", "-o", `subformat=${subformat},force_size=on`, raw, path);
    assert.equal(await detectFormat(path), "vhd");
    const store = await openImage(path, { format: "vhd", readOnly: true });
    assert.equal(store.info.sizeBytes, SIZE);
    assert.equal(Buffer.compare(await readAll(store), disk), 0);
    await store.close();

    const damaged = readFileSync(path);
    damaged[damaged.length - 500] ^= 1;
    damaged[12] ^= 1;
    writeFileSync(path, damaged);
    await assert.rejects(
      openImage(path, { format: "vhd", readOnly: true }),
      /is no VHD image, or its footer is damaged/,
    );
  });
}

test("is not written", async () => {
  await assert.rejects(openImage(join(folder, "x.vhd"), { format: "vhd", readOnly: false }), StorageError);
});
