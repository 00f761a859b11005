/** Answers a guest's requests for files from a folder of the host. */
import { constants } from "node:fs";
import * as fs from "node:fs/promises";
import { setAttributes, statfsReply, writeAttributes } from "./attributes.ts";
import { createEntry, type DirectoryEntry, listDirectory } from "./directory.ts";
import {
  AT_REMOVEDIR,
  Errno,
  F_UNLCK,
  LOCK_SUCCESS,
  MAX_WALK,
  MIN_MESSAGE_BYTES,
  OpenFlag,
  P9,
  P9Error,
  READ_HEADER_BYTES,
  ReplyWriter,
  type RequestReader,
  RLERROR,
  VERSION,
} from "./protocol.ts";
import { qidOf, type Share, type ShareNode } from "./share.ts";

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC } = constants;
const MAX_FIDS = 2048;
/** Bits that would run a guest's file with somebody else's rights on the host. */
const SET_ID_BITS = 0o6000;

/** What the guest calls a fid: a file in its hand, perhaps open. */
interface Fid {
  readonly node: ShareNode;
  readonly file?: fs.FileHandle;
  /** Of an open directory, from the time when it was read from its beginning. */
  listing?: readonly DirectoryEntry[];
}

export class P9Server {
  readonly #share: Share;
  readonly #fids = new Map<number, Fid>();
  /** Requests under way, by tag. */
  readonly #running = new Map<number, Promise<void>>();
  readonly #maxMessageBytes: number;
  #messageBytes: number;

  /** @param maxMessageBytes  what the transport carries */
  constructor(share: Share, maxMessageBytes: number) {
    this.#share = share;
    this.#maxMessageBytes = this.#messageBytes = maxMessageBytes;
  }

  /** Never rejects: what goes wrong is the answer. */
  async serve(request: RequestReader): Promise<Buffer> {
    const { tag, type } = request;
    const done = Promise.withResolvers<void>();
    this.#running.set(tag, done.promise);
    try {
      const reply = await this.#dispatch(type, request);
      return reply.finish(type + 1, tag);
    } catch (error) {
      return new ReplyWriter().u32(errnoOf(error)).finish(RLERROR, tag);
    } finally {
      if (this.#running.get(tag) === done.promise) this.#running.delete(tag);
      done.resolve();
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#running.values());
    for (const fid of this.#fids.values()) await closeFid(fid);
    this.#fids.clear();
  }

  #dispatch(type: number, r: RequestReader): Promise<ReplyWriter> {
    switch (type) {
      case P9.version:
        return this.#version(r);
      case P9.attach:
        return this.#attach(r);
      case P9.flush:
        return this.#flush(r);
      case P9.walk:
        return this.#walk(r);
      case P9.clunk:
        return this.#clunk(r);
      case P9.lopen:
        return this.#open(r);
      case P9.read:
        return this.#read(r);
      case P9.readdir:
        return this.#readdir(r);
      case P9.getattr:
        return this.#getattr(r);
      case P9.statfs:
        return this.#node(r).use(statfsReply);
      case P9.readlink:
        return this.#readlink(r);
      case P9.fsync:
        return this.#fsync(r);
      case P9.lock:
        // Among the guest's own programs; the host's do not see them.
        return Promise.resolve(new ReplyWriter().u8(LOCK_SUCCESS));
      case P9.getlock:
        return this.#getlock(r);
      default:
        if (CHANGING.has(type)) return this.#change(type, r);
        throw new P9Error(Errno.EOPNOTSUPP);
    }
  }

  #change(type: number, r: RequestReader): Promise<ReplyWriter> {
    if (this.#share.readOnly) throw new P9Error(Errno.EROFS);
    switch (type) {
      case P9.lcreate:
        return this.#create(r);
      case P9.write:
        return this.#write(r);
      case P9.setattr:
        return this.#setattr(r);
      case P9.mkdir:
      case P9.symlink:
      case P9.mknod:
        return createEntry(type, this.#node(r), r);
      case P9.link:
        return this.#link(r);
      case P9.rename:
        return this.#rename(r);
      case P9.renameat:
        return this.#renameat(r);
      case P9.unlinkat:
        return this.#unlinkat(r);
      default:
        return this.#remove(r);
    }
  }

  #fid(r: RequestReader): Fid {
    const fid = this.#fids.get(r.u32());
    if (fid === undefined) throw new P9Error(Errno.EBADF);
    return fid;
  }

  #node(r: RequestReader): ShareNode {
    return this.#fid(r).node;
  }

  #checkNew(number: number): void {
    if (this.#fids.has(number)) throw new P9Error(Errno.EBADF);
    if (this.#fids.size >= MAX_FIDS) throw new P9Error(Errno.ENFILE);
  }

  /** @throws P9Error  the number was taken while the file was looked for; the file is let go */
  async #add(number: number, fid: Fid): Promise<void> {
    if (this.#fids.has(number)) {
      await closeFid(fid);
      throw new P9Error(Errno.EBADF);
    }
    this.#fids.set(number, fid);
  }

  /** Begins anew: what an earlier mount had in hand is let go. */
  async #version(r: RequestReader): Promise<ReplyWriter> {
    const wanted = r.u32();
    const version = r.text();
    if (wanted < MIN_MESSAGE_BYTES) throw new P9Error(Errno.EINVAL);
    const fids = [...this.#fids.values()];
    this.#fids.clear();
    for (const fid of fids) await closeFid(fid);
    this.#messageBytes = Math.min(wanted, this.#maxMessageBytes);
    return new ReplyWriter().u32(this.#messageBytes).text(version === VERSION ? VERSION : "unknown");
  }

  async #attach(r: RequestReader): Promise<ReplyWriter> {
    const number = r.u32();
    this.#checkNew(number);
    const node = await this.#share.root();
    await this.#add(number, { node });
    return new ReplyWriter().qid(qidOf(await node.stat()));
  }

  async #flush(r: RequestReader): Promise<ReplyWriter> {
    const old = r.u16();
    // The request itself goes on, so its answer comes first.
    if (old !== r.tag) await this.#running.get(old);
    return new ReplyWriter();
  }

  async #walk(r: RequestReader): Promise<ReplyWriter> {
    const from = this.#fid(r);
    const number = r.u32();
    const names = Array.from({ length: r.u16() }, () => r.text());
    if (names.length > MAX_WALK) throw new P9Error(Errno.EINVAL);
    const replaces = this.#fids.get(number) === from;
    if (!replaces) this.#checkNew(number);
    let node = from.node.hold();
    const qids = [];
    for (const name of names) {
      try {
        const next = await this.#step(node, name);
        void node.release();
        node = next;
        qids.push(qidOf(await node.stat()));
      } catch (error) {
        if (qids.length > 0) break;
        await node.release();
        throw error;
      }
    }
    if (qids.length < names.length) await node.release();
    else if (!replaces) await this.#add(number, { node });
    else if (this.#fids.get(number) === from && from.file === undefined) {
      this.#fids.set(number, { node });
      void closeFid(from);
    } else {
      await node.release();
      throw new P9Error(Errno.EBUSY);
    }
    const reply = new ReplyWriter().u16(qids.length);
    for (const qid of qids) reply.qid(qid);
    return reply;
  }

  async #step(node: ShareNode, name: string): Promise<ShareNode> {
    if (name === "..") return (node.parent ?? node).hold();
    if (name === "" || name === "." || /[/\0]/.test(name)) throw new P9Error(Errno.ENOENT);
    return this.#share.find(node, name);
  }

  async #clunk(r: RequestReader): Promise<ReplyWriter> {
    this.#drop(r.u32());
    return new ReplyWriter();
  }

  /** The guest need not wait for the host to let go. */
  #drop(number: number): void {
    const fid = this.#fids.get(number);
    if (fid === undefined) throw new P9Error(Errno.EBADF);
    this.#fids.delete(number);
    void closeFid(fid);
  }

  async #open(r: RequestReader): Promise<ReplyWriter> {
    const number = r.u32();
    const fid = this.#fids.get(number);
    if (fid === undefined || fid.file !== undefined) throw new P9Error(Errno.EBADF);
    const flags = hostFlags(r.u32());
    if (this.#share.readOnly && flags !== O_RDONLY) throw new P9Error(Errno.EROFS);
    const file = await fid.node.open(flags);
    await this.#replace(number, fid, { node: fid.node.hold(), file });
    return new ReplyWriter().qid(qidOf(await file.stat({ bigint: true }))).u32(0);
  }

  /** @throws P9Error  the guest gave the number away meanwhile */
  async #replace(number: number, before: Fid, after: Fid): Promise<void> {
    if (this.#fids.get(number) !== before) {
      await closeFid(after);
      throw new P9Error(Errno.EBADF);
    }
    this.#fids.set(number, after);
    void closeFid(before);
  }

  async #create(r: RequestReader): Promise<ReplyWriter> {
    const number = r.u32();
    const fid = this.#fids.get(number);
    if (fid === undefined || fid.file !== undefined) throw new P9Error(Errno.EBADF);
    const name = r.name();
    const wanted = r.u32();
    const mode = r.u32() & 0o7777 & ~SET_ID_BITS;
    const flags = hostFlags(wanted) | O_CREAT | (wanted & OpenFlag.excl ? O_EXCL : 0);
    const { node, file } = await this.#share.create(fid.node, name, flags, mode);
    await this.#replace(number, fid, { node, file });
    return new ReplyWriter().qid(qidOf(await file.stat({ bigint: true }))).u32(0);
  }

  #file(r: RequestReader): fs.FileHandle {
    const { file } = this.#fid(r);
    if (file === undefined) throw new P9Error(Errno.EBADF);
    return file;
  }

  async #read(r: RequestReader): Promise<ReplyWriter> {
    const file = this.#file(r);
    const offset = r.offset();
    const count = Math.min(r.u32(), this.#messageBytes - READ_HEADER_BYTES);
    const bytes = Buffer.allocUnsafe(count);
    const { bytesRead } = await file.read(bytes, 0, count, offset);
    return new ReplyWriter().u32(bytesRead).data(bytes.subarray(0, bytesRead));
  }

  async #write(r: RequestReader): Promise<ReplyWriter> {
    const file = this.#file(r);
    const offset = r.offset();
    const bytes = r.data(r.u32());
    const { bytesWritten } = await file.write(bytes, 0, bytes.length, offset);
    return new ReplyWriter().u32(bytesWritten);
  }

  async #readdir(r: RequestReader): Promise<ReplyWriter> {
    const fid = this.#fid(r);
    const offset = r.offset();
    const room = Math.min(r.u32(), this.#messageBytes - READ_HEADER_BYTES);
    if (fid.file === undefined) throw new P9Error(Errno.EBADF);
    if (offset === 0 || fid.listing === undefined) fid.listing = await listDirectory(fid.node);
    const body = new ReplyWriter();
    await writeListing(fid, offset, room, body);
    const bytes = body.finish(0, 0).subarray(7);
    return new ReplyWriter().u32(bytes.length).data(bytes);
  }

  async #getattr(r: RequestReader): Promise<ReplyWriter> {
    const { node, file } = this.#fid(r);
    return writeAttributes(file === undefined ? await node.stat() : await file.stat({ bigint: true }));
  }

  async #setattr(r: RequestReader): Promise<ReplyWriter> {
    const { node } = this.#fid(r);
    await setAttributes(node, r, SET_ID_BITS);
    return new ReplyWriter();
  }

  async #readlink(r: RequestReader): Promise<ReplyWriter> {
    const target = await this.#node(r).atOwnName((path) => fs.readlink(path, "latin1"));
    return new ReplyWriter().text(target);
  }

  async #fsync(r: RequestReader): Promise<ReplyWriter> {
    await this.#file(r).sync();
    return new ReplyWriter();
  }

  async #getlock(r: RequestReader): Promise<ReplyWriter> {
    this.#fid(r);
    r.u8();
    const [start, length, process, client] = [r.u64(), r.u64(), r.u32(), r.text()];
    return new ReplyWriter().u8(F_UNLCK).u64(start).u64(length).u32(process).text(client);
  }

  async #link(r: RequestReader): Promise<ReplyWriter> {
    const folder = this.#node(r);
    const node = this.#node(r);
    const name = r.name();
    await node.atOwnName((from) => folder.at(name, (to) => fs.link(from, to)));
    return new ReplyWriter();
  }

  async #rename(r: RequestReader): Promise<ReplyWriter> {
    const node = this.#node(r);
    const folder = this.#node(r);
    const name = r.name();
    await node.atOwnName((from) => folder.at(name, (to) => fs.rename(from, to)));
    return new ReplyWriter();
  }

  async #renameat(r: RequestReader): Promise<ReplyWriter> {
    const [from, oldName, to, newName] = [this.#node(r), r.name(), this.#node(r), r.name()];
    await from.at(oldName, (source) => to.at(newName, (target) => fs.rename(source, target)));
    return new ReplyWriter();
  }

  async #unlinkat(r: RequestReader): Promise<ReplyWriter> {
    const [folder, name, flags] = [this.#node(r), r.name(), r.u32()];
    await folder.at(name, (path) => (flags & AT_REMOVEDIR ? fs.rmdir(path) : fs.unlink(path)));
    return new ReplyWriter();
  }

  /** The fid is gone afterwards, whether the file is or not. */
  async #remove(r: RequestReader): Promise<ReplyWriter> {
    const number = r.u32();
    const node = this.#fids.get(number)?.node.hold();
    if (node === undefined) throw new P9Error(Errno.EBADF);
    try {
      this.#drop(number);
      const isFolder = (await node.stat()).isDirectory();
      await node.atOwnName((path) => (isFolder ? fs.rmdir(path) : fs.unlink(path)));
    } finally {
      await node.release();
    }
    return new ReplyWriter();
  }
}

const CHANGING: ReadonlySet<number> = new Set([
  P9.lcreate,
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
]);

/** Appending and the like are the guest's to see to: its writes say where they go. */
function hostFlags(flags: number): number {
  const access = flags & OpenFlag.accessMode;
  const mode = access === OpenFlag.wronly ? O_WRONLY : access === OpenFlag.rdwr ? O_RDWR : O_RDONLY;
  return mode | (flags & OpenFlag.trunc && mode !== O_RDONLY ? O_TRUNC : 0);
}

async function writeListing(
  { node, listing = [] }: Fid,
  offset: number,
  room: number,
  into: ReplyWriter,
): Promise<void> {
  let used = 0;
  for (let n = offset; n < listing.length; n++) {
    const { name, type } = listing[n]!;
    const bytes = 13 + 8 + 1 + 2 + name.length;
    if (used + bytes > room) return;
    // What has gone meanwhile is left out.
    const stats = await node.at(name, (path) => fs.lstat(path, { bigint: true })).catch(() => undefined);
    if (stats === undefined) continue;
    into
      .qid(qidOf(stats))
      .u64(n + 1)
      .u8(type)
      .text(name);
    used += bytes;
  }
}

async function closeFid({ node, file }: Fid): Promise<void> {
  await file?.close().catch(() => {});
  await node.release();
}

function errnoOf(error: unknown): number {
  if (error instanceof P9Error) return error.errno;
  const { errno } = error as NodeJS.ErrnoException;
  return typeof errno === "number" && errno < 0 && errno > -4096 ? -errno : Errno.EIO;
}
