/** Directories: what is in them, and what is made in them. */
import type { Dirent } from "node:fs";
import * as fs from "node:fs/promises";
import { Errno, P9, P9Error, ReplyWriter, type RequestReader } from "./protocol.ts";
import { qidOf, type ShareNode } from "./share.ts";

export interface DirectoryEntry {
  /** Bytes, one character each. */
  readonly name: string;
  /** As readdir(3) has it. */
  readonly type: number;
}

/** DT_* of Linux's dirent.h. */
const Type = {
  unknown: 0,
  fifo: 1,
  charDevice: 2,
  directory: 4,
  blockDevice: 6,
  file: 8,
  symlink: 10,
  socket: 12,
} as const;

/** All of a directory, "." and ".." first. */
export async function listDirectory(node: ShareNode): Promise<DirectoryEntry[]> {
  const entries = await node.use((path) =>
    fs.readdir(path, { withFileTypes: true, encoding: "latin1" as BufferEncoding }),
  );
  const own = [".", ".."].map((name) => ({ name, type: Type.directory }));
  return [...own, ...entries.map((entry) => ({ name: entry.name, type: typeOf(entry) }))];
}

function typeOf(entry: Dirent): number {
  if (entry.isFile()) return Type.file;
  if (entry.isDirectory()) return Type.directory;
  if (entry.isSymbolicLink()) return Type.symlink;
  if (entry.isFIFO()) return Type.fifo;
  if (entry.isSocket()) return Type.socket;
  return entry.isCharacterDevice() ? Type.charDevice : entry.isBlockDevice() ? Type.blockDevice : Type.unknown;
}

/** mkdir, symlink and mknod: the answer says what was made. */
export async function createEntry(type: number, folder: ShareNode, r: RequestReader): Promise<ReplyWriter> {
  const name = r.name();
  if (type === P9.symlink) {
    const target = Buffer.from(r.text(), "latin1");
    // A NUL would be refused by Node with an error of its own.
    if (target.includes(0)) throw new P9Error(Errno.EINVAL);
    await folder.at(name, (path) => fs.symlink(target, path));
  } else if (type === P9.mkdir) {
    const mode = r.u32() & 0o1777;
    await folder.at(name, (path) => fs.mkdir(path, { mode }));
  } else {
    // Devices of the host are none of the guest's business, and pipes and sockets on it have no use.
    throw new P9Error(Errno.EPERM);
  }
  const stats = await folder.at(name, (path) => fs.lstat(path, { bigint: true }));
  return new ReplyWriter().qid(qidOf(stats));
}
