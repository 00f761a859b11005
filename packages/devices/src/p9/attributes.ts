/** What belongs to a file beside its bytes. */
import type { BigIntStats } from "node:fs";
import * as fs from "node:fs/promises";
import { ATTR_BASIC, AttrValid, ReplyWriter, type RequestReader } from "./protocol.ts";
import { qidOf, type ShareNode } from "./share.ts";

const NANOSECONDS = 1_000_000_000n;
const V9FS_MAGIC = 0x01021997;
const MAX_NAME_BYTES = 255;

export function writeAttributes(stats: BigIntStats): ReplyWriter {
  const reply = new ReplyWriter().u64(ATTR_BASIC).qid(qidOf(stats));
  reply.u32(Number(stats.mode)).u32(Number(stats.uid)).u32(Number(stats.gid));
  for (const value of [stats.nlink, stats.rdev, stats.size, stats.blksize, stats.blocks]) reply.u64(value);
  for (const time of [stats.atimeNs, stats.mtimeNs, stats.ctimeNs])
    reply.u64(time / NANOSECONDS).u64(time % NANOSECONDS);
  // Time of birth, generation and version of the data are not told.
  for (let n = 0; n < 4; n++) reply.u64(0);
  return reply;
}

/**
 * Changes what a request names, in the order in which a failure does the least harm.
 * @param forbiddenMode  bits that are left out
 */
export async function setAttributes(node: ShareNode, r: RequestReader, forbiddenMode: number): Promise<void> {
  const [valid, mode, uid, gid] = [r.u32(), r.u32(), r.u32(), r.u32()];
  const size = r.offset();
  const times = Array.from({ length: 4 }, () => Number(r.u64()));
  const has = (bit: number): boolean => (valid & bit) !== 0;
  const isLink = (await node.stat()).isSymbolicLink();
  if (has(AttrValid.size)) await node.use((path) => fs.truncate(path, size));
  if (has(AttrValid.mode) && !isLink) await node.use((path) => fs.chmod(path, mode & 0o7777 & ~forbiddenMode));
  if (has(AttrValid.uid) || has(AttrValid.gid))
    await changeOwner(node, has(AttrValid.uid) ? uid : undefined, has(AttrValid.gid) ? gid : undefined);
  if ((has(AttrValid.atime) || has(AttrValid.mtime)) && !isLink) await setTimes(node, valid, times);
}

/** A user who is not root cannot give files away; the guest is told that it did, as its files stay usable to it. */
async function changeOwner(node: ShareNode, uid: number | undefined, gid: number | undefined): Promise<void> {
  const stats = await node.stat();
  const change = (path: string | Buffer, chown: typeof fs.chown): Promise<void> =>
    chown(path, uid ?? Number(stats.uid), gid ?? Number(stats.gid));
  const changing = stats.isSymbolicLink()
    ? node.atOwnName((path) => change(path, fs.lchown))
    : node.use((path) => change(path, fs.chown));
  await changing.catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EPERM") throw error;
  });
}

async function setTimes(node: ShareNode, valid: number, [as = 0, ans = 0, ms = 0, mns = 0]: number[]): Promise<void> {
  const stats = await node.stat();
  const now = Date.now() / 1000;
  const choose = (bit: number, setBit: number, wanted: number, before: bigint): number => {
    if ((valid & bit) === 0) return Number(before) / 1e9;
    return (valid & setBit) === 0 ? now : wanted;
  };
  const atime = choose(AttrValid.atime, AttrValid.atimeSet, as + ans / 1e9, stats.atimeNs);
  const mtime = choose(AttrValid.mtime, AttrValid.mtimeSet, ms + mns / 1e9, stats.mtimeNs);
  await node.use((path) => fs.utimes(path, atime, mtime));
}

export async function statfsReply(path: string): Promise<ReplyWriter> {
  const stats = await fs.statfs(path, { bigint: true });
  const reply = new ReplyWriter().u32(V9FS_MAGIC).u32(Number(stats.bsize));
  for (const value of [stats.blocks, stats.bfree, stats.bavail, stats.files, stats.ffree, 0n]) reply.u64(value);
  return reply.u32(MAX_NAME_BYTES);
}
