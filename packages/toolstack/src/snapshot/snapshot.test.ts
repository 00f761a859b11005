/** Snapshots of domains that run, and domains that go on from them with frames read as they are touched. */
import assert from "node:assert/strict";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openDefaultStore, openImage } from "@xenoserver/storage";
import { stampGuest } from "@xenoserver/testkit";
import { type DomainConfig, parseDisk, specOfConfig } from "../cfg/index.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import { GuestShell } from "../testing/guest-shell.ts";
import { Stamper } from "../testing/stamper.ts";
import { openResources, tinyConfig } from "../testing/tiny-domain.ts";
import { openSaved, removeSnapshot } from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-snapshot-"));
const [kernel, path, image] = ["kernel", "snapshot", "disk.img"].map((name) => join(folder, name)) as [
  string,
  string,
  string,
];
const storeBefore = process.env["XENO_STORE"];
const config = tinyConfig(kernel);
const spec = specOfConfig(config);

before(() => {
  process.env["XENO_STORE"] = join(folder, "store");
  writeFileSync(kernel, stampGuest());
  writeFileSync(image, "");
  truncateSync(image, 32 << 20);
});
after(() => {
  if (storeBefore === undefined) delete process.env["XENO_STORE"];
  else process.env["XENO_STORE"] = storeBefore;
  rmSync(folder, { recursive: true });
});

describe("a snapshot of a domain that writes all the time", { timeout: 300_000 }, () => {
  test("is of one moment: copies find each page as they left it, while the original runs on", async () => {
    const before = openResources();
    const original = await Stamper.start(config);
    for (let k = 0; k < 3; k++) {
      await original.goesOn();
      const report = await original.domain.snapshot(path, spec);
      assert.ok(report.bytes > 8 << 20 && report.pausedMs <= report.totalMs);
      assert.equal(original.domain.isPaused, false);
    }
    const copies: Stamper[] = [];
    for (let k = 0; k < 2; k++) {
      const from = await openSaved(path);
      copies.push(await Stamper.start(from.config, from));
    }
    await original.goesOn();
    await original.domain.destroy();
    rmSync(path);
    for (const copy of copies) await copy.goesOn();
    // A copy of a copy, part of which was never read.
    const from = await openSaved(await snapshotOf(copies[0]!, join(folder, "second")));
    const grandchild = await Stamper.start(from.config, from);
    await grandchild.goesOn();
    for (const { domain } of [...copies, grandchild]) await domain.destroy();
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.deepEqual(openResources(), before, "nothing stays open");
  });

  test("has a name and a uuid of its own where it goes on", async () => {
    const original = await Stamper.start(config);
    await original.goesOn();
    const from = await openSaved(await snapshotOf(original, path));
    const uuid = "01234567-89ab-cdef-0123-456789abcdef";
    const copy = await Stamper.start({ ...from.config, name: "copy", uuid }, from);
    await copy.goesOn();
    const home = `/local/domain/${copy.domain.domid}`;
    const { store } = copy.domain;
    assert.deepEqual(
      [store.read(`${home}/name`), store.read(`${home}/vm`), store.list("/vm"), store.read(`/vm/${uuid}/name`)],
      ["copy", `/vm/${uuid}`, [uuid], "copy"],
    );
    assert.equal(original.domain.store.read(`/local/domain/${original.domain.domid}/name`), "tiny");
    await Promise.all([original.domain.destroy(), copy.domain.destroy()]);
  });

  test("is refused, or ends its domain with a sentence, where its file is damaged", async () => {
    const original = await Stamper.start(config);
    await original.goesOn();
    await snapshotOf(original, path);
    await original.domain.destroy();
    const whole = readFileSync(path);
    const broken = join(folder, "broken");
    const recordsAt = Number(whole.readBigUInt64LE(16));
    const changed = (at: number): Buffer => {
      const bytes = Buffer.from(whole);
      bytes[at] = bytes[at]! ^ 0x20;
      return bytes;
    };
    const refused = {
      head: changed(8),
      place: changed(17),
      records: changed(recordsAt + 40),
      end: whole.subarray(0, -20),
    };
    for (const [what, bytes] of Object.entries({ ...refused, empty: whole.subarray(0, 12) })) {
      writeFileSync(broken, bytes);
      await assert.rejects(
        async () => {
          const from = await openSaved(broken);
          return Stamper.start(from.config, from);
        },
        (error: Error) => {
          assert.equal(error.name, "SaveError", `${what}: ${error.stack}`);
          return true;
        },
      );
    }
    // Each of the pages that the guest goes through is damaged; others may be read before.
    const bytes = Buffer.from(whole);
    for (let at = 4096; at < recordsAt; at += 4096) bytes[at + 100] = bytes[at + 100]! ^ 1;
    writeFileSync(broken, bytes);
    const from = await openSaved(broken);
    const outcome = await Stamper.start(from.config, from).then(
      async ({ domain }) => (await domain.exited).detail ?? "",
      (error: Error) => error.message,
    );
    assert.match(outcome, /broken: frame \d+ in slot \d+ is damaged/);
  });

  test("leaves no file where it cannot be written, nor of a disk that it cannot keep", async () => {
    const original = await Stamper.start({ ...config, disks: [parseDisk(`${image},raw,xvda`)] });
    await original.goesOn();
    await assert.rejects(original.domain.snapshot(join(folder, "no", "folder"), spec), /no\/folder: cannot be written/);
    await assert.rejects(original.domain.snapshot(join(folder, "raw"), spec), /disk xvda: is on .*disk\.img itself/);
    assert.equal(original.domain.isPaused, false);
    await original.goesOn();
    await original.domain.destroy();
    assert.deepEqual(
      readdirSync(folder).filter((name) => /^raw|part$/.test(name)),
      [],
    );
  });
});

test("a Debian guest goes on with the disk that it had at that moment", { timeout: 600_000 }, async (t) => {
  const guest = await DebianGuest.open();
  if (typeof guest === "string") return t.skip(guest);
  const images = await openDefaultStore();
  const blank = await openImage(image, { format: "raw", readOnly: true });
  await images.import("blank", blank);
  await blank.close();
  const debian: DomainConfig = await guest.config(
    { packages: ["e2fsprogs"], modules: ["xen-blkfront", "ext4"] },
    { name: "first", vcpus: 2, disks: [parseDisk("blank,image,xvda")] },
  );
  const runOk = async (shell: GuestShell, command: string): Promise<string> => {
    const { output, status } = await shell.run(command, 240);
    assert.equal(status, 0, `${command}: ${output}`);
    return output;
  };
  const shell = await GuestShell.boot(debian, 240);
  const shells = [shell];
  try {
    await runOk(shell, "mkfs.ext4 -q /dev/xvda && mkdir /mnt/d && mount /dev/xvda /mnt/d && echo then > /mnt/d/file");
    await shell.session.domain.snapshot(path, specOfConfig(debian));
    await runOk(shell, "echo now > /mnt/d/file; echo more > /mnt/d/other; sync");
    const same = await openSaved(path);
    await assert.rejects(GuestShell.resume(same), /xvda/);
    const from = await openSaved(path);
    const copy = await GuestShell.resume(from, {}, { ...from.config, name: "second" });
    shells.push(copy);
    assert.equal(await runOk(copy, "cat /mnt/d/file; ls -1 /mnt/d; nproc"), "then\nfile\nlost+found\n2");
    await runOk(copy, "echo 3 > /proc/sys/vm/drop_caches; cat /mnt/d/file; umount /mnt/d; fsck.ext4 -fn /dev/xvda");
    assert.equal(await runOk(shell, "cat /mnt/d/file /mnt/d/other"), "now\nmore");
    // The copy keeps its disk when the snapshot goes, and the garbage with it.
    const kept = from.config.disks![0]!.target;
    assert.ok((await images.list()).some(({ name }) => name === kept));
    await removeSnapshot(path);
    await images.collect(0);
    assert.ok(!(await images.list()).some(({ name }) => name === kept) && !existsSync(path));
    await runOk(copy, "fsck.ext4 -fn /dev/xvda");
  } finally {
    for (const one of shells) await one.destroy();
  }
});

async function snapshotOf({ domain }: Stamper, to: string): Promise<string> {
  await domain.snapshot(to, spec);
  assert.ok(existsSync(to) && !existsSync(`${to}.part`));
  closeSync(openSync(to, "r"));
  return to;
}
