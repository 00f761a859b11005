/** The files' side of 9pfs, asked by a client that says whatever it likes. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { Errno, NO_FID, OpenFlag, P9, ReplyWriter, RequestReader, RLERROR } from "./protocol.ts";
import { P9Server } from "./server.ts";
import { Share } from "./share.ts";

const skip = process.platform === "linux" ? false : "a guest is kept within its folder by Linux's /proc";
const MESSAGE_BYTES = 65536;

describe("a shared folder", { skip }, () => {
  let top: string;
  let folder: string;
  let share: Share;
  let server: P9Server;

  beforeEach(async () => {
    top = fs.mkdtempSync(join(tmpdir(), "xeno-p9-"));
    folder = join(top, "share");
    fs.mkdirSync(join(folder, "dir"), { recursive: true });
    fs.writeFileSync(join(folder, "dir", "passwd"), "the guest's\n");
    fs.mkdirSync(join(top, "outside"));
    fs.writeFileSync(join(top, "outside", "passwd"), "the host's\n");
    await begin(false);
  });
  afterEach(async () => {
    await server.close();
    fs.rmSync(top, { recursive: true });
  });

  async function begin(readOnly: boolean): Promise<void> {
    share = new Share(folder, readOnly);
    server = new P9Server(share, MESSAGE_BYTES);
    await ask(P9.version, (w) => w.u32(MESSAGE_BYTES).text("9P2000.L"));
    await ask(P9.attach, (w) => w.u32(0).u32(NO_FID).text("root").text("").u32(0));
  }

  /** The answer's body, or the errno that it is refused with. */
  async function ask(type: number, body: (w: ReplyWriter) => ReplyWriter, tag = 1): Promise<Buffer | number> {
    const answer = await server.serve(new RequestReader(body(new ReplyWriter()).finish(type, tag)));
    return answer[4] === RLERROR ? answer.readUInt32LE(7) : answer.subarray(7);
  }

  const walk = (fid: number, to: number, ...names: string[]) =>
    ask(P9.walk, (w) => {
      w.u32(fid).u32(to).u16(names.length);
      for (const name of names) w.text(name);
      return w;
    });
  const open = (fid: number, flags = 0) => ask(P9.lopen, (w) => w.u32(fid).u32(flags));
  const read = async (fid: number): Promise<string | number> => {
    const answer = await ask(P9.read, (w) => w.u32(fid).u64(0).u32(1000));
    return typeof answer === "number" ? answer : answer.subarray(4).toString();
  };
  const create = (fid: number, name: string, flags: number = OpenFlag.rdwr) =>
    ask(P9.lcreate, (w) => w.u32(fid).text(name).u32(flags).u32(0o6644).u32(0));
  const symlink = (fid: number, name: string, target: string) =>
    ask(P9.symlink, (w) => w.u32(fid).text(name).text(target).u32(0));

  test("files are read and made", async () => {
    await walk(0, 1, "dir", "passwd");
    await open(1);
    assert.equal(await read(1), "the guest's\n");
    await walk(0, 2);
    await create(2, "new");
    await ask(P9.write, (w) => w.u32(2).u64(2).u32(3).data(Buffer.from("abc")));
    assert.equal(fs.readFileSync(join(folder, "new"), "latin1"), "\0\0abc");
    assert.equal(fs.statSync(join(folder, "new")).mode & 0o7000, 0, "nothing of a guest runs as another user");
  });

  test("names are names, and .. ends at the folder", async () => {
    for (const name of ["dir/passwd", "", ".", "a\0b"])
      assert.equal(await walk(0, 1, name), Errno.ENOENT, JSON.stringify(name));
    for (const name of ["../x", "..", ".", "", "a/b", "a\0b"]) {
      await walk(0, 2);
      assert.equal(await create(2, name), Errno.EINVAL, JSON.stringify(name));
      assert.equal(await symlink(0, name, "x"), Errno.EINVAL);
      assert.equal(await ask(P9.unlinkat, (w) => w.u32(0).text(name).u32(0)), Errno.EINVAL);
      assert.equal(await ask(P9.renameat, (w) => w.u32(0).text("dir").u32(0).text(name)), Errno.EINVAL);
      await ask(P9.clunk, (w) => w.u32(2));
    }
    const up = await walk(0, 3, "..", "..", "..", "outside");
    assert.equal((up as Buffer).readUInt16LE(0), 3, "three steps to where it began, and no fourth");
  });

  test("links are shown and not followed", async () => {
    await symlink(0, "out", join(top, "outside"));
    await symlink(0, "file", join(top, "outside", "passwd"));
    assert.equal(((await walk(0, 1, "out", "passwd")) as Buffer).readUInt16LE(0), 1);
    await walk(0, 2, "file");
    assert.equal(await open(2), Errno.EACCES);
    assert.equal(
      ((await ask(P9.readlink, (w) => w.u32(2))) as Buffer).subarray(2).toString(),
      join(top, "outside", "passwd"),
    );
    await walk(0, 3);
    assert.equal(await create(3, "file"), 40, "ELOOP");
    assert.equal(fs.readFileSync(join(top, "outside", "passwd"), "utf8"), "the host's\n");
  });

  test("a folder that becomes a link leads nowhere, whenever it does", async () => {
    await walk(0, 1, "dir");
    await walk(0, 2, "dir", "passwd");
    await ask(P9.renameat, (w) => w.u32(0).text("dir").u32(0).text("away"));
    await symlink(0, "dir", join(top, "outside"));
    await walk(1, 3, "passwd");
    await open(3);
    assert.equal(await read(3), "the guest's\n", "a folder in hand stays itself");
    await open(2);
    assert.equal(await read(2), "the guest's\n");
    await walk(1, 4);
    await create(4, "made");
    assert.deepEqual(fs.readdirSync(join(top, "outside")), ["passwd"]);
  });

  test("pipes and devices are not opened, and not made", async () => {
    assert.equal(await ask(P9.mknod, (w) => w.u32(0).text("sda").u32(0o60660).u32(8).u32(0).u32(0)), Errno.EPERM);
    await new Promise<void>((resolve) =>
      import("node:child_process").then(({ execFile }) => execFile("mkfifo", [join(folder, "pipe")], () => resolve())),
    );
    await walk(0, 1, "pipe");
    assert.equal(await open(1), Errno.EACCES);
    await walk(0, 2);
    assert.notEqual(typeof (await create(2, "pipe", OpenFlag.wronly)), "object");
  });

  test("a folder to look at is not changed", async () => {
    await server.close();
    await begin(true);
    await walk(0, 1, "dir", "passwd");
    assert.equal(await open(1, OpenFlag.wronly), Errno.EROFS);
    assert.equal(await open(1, OpenFlag.trunc | OpenFlag.rdwr), Errno.EROFS);
    assert.equal(await create(0, "x"), Errno.EROFS);
    for (const type of [
      P9.write,
      P9.setattr,
      P9.mkdir,
      P9.symlink,
      P9.mknod,
      P9.link,
      P9.rename,
      P9.renameat,
      P9.unlinkat,
      P9.remove,
    ])
      assert.equal(await ask(type, (w) => w.u32(1)), Errno.EROFS);
    await open(1);
    assert.equal(await read(1), "the guest's\n");
  });

  test("fids are counted, given back, and begin anew with a new mount", async () => {
    let refused: Buffer | number = 0;
    for (let fid = 1; (fid < 4000 && typeof refused !== "number") || fid === 1; fid++)
      refused = await walk(0, fid, "dir");
    assert.equal(refused, Errno.ENFILE);
    await ask(P9.version, (w) => w.u32(MESSAGE_BYTES).text("9P2000.L"));
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(share.nodes, 0);
    assert.equal(await read(0), Errno.EBADF);
  });

  test("a fid that goes while it is used does no harm", async () => {
    await walk(0, 1, "dir", "passwd");
    await open(1);
    const answers = await Promise.all([read(1), ask(P9.clunk, (w) => w.u32(1), 2), read(1), walk(0, 1, "dir")]);
    assert.ok(answers.every((answer) => answer !== undefined));
    assert.equal(typeof (await ask(P9.getattr, (w) => w.u32(1).u64(0x7ff))), "object");
  });

  test("a flush is answered behind what it flushes", async () => {
    await walk(0, 1, "dir", "passwd");
    await open(1);
    const order: string[] = [];
    const reading = ask(P9.read, (w) => w.u32(1).u64(0).u32(100), 7).then(() => order.push("read"));
    const flushing = ask(P9.flush, (w) => w.u16(7), 8).then(() => order.push("flush"));
    await Promise.all([reading, flushing]);
    assert.deepEqual(order, ["read", "flush"]);
  });

  test("whatever is sent is answered", async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...Object.values(P9)), fc.uint8Array({ maxLength: 60 }), async (type, bytes) => {
        const answer = await server.serve(new RequestReader(new ReplyWriter().data(bytes).finish(type, 3)));
        assert.equal(answer.readUInt32LE(0), answer.length);
        assert.ok([type + 1, RLERROR].includes(answer[4]!));
      }),
      { numRuns: 500 },
    );
    assert.deepEqual(fs.readdirSync(top).sort(), ["outside", "share"]);
  });
});
