/**
 * A folder of the host that a guest may look into, and into nothing else.
 *
 * Each file that the guest has in hand is held open by a descriptor that allows nothing but naming it (O_PATH, O_NOFOLLOW), and
 * what is in a directory is reached as /proc/self/fd/N/NAME. So the kernel looks up one name in one directory that we hold:
 * no link is followed, and it does not matter what the guest, or somebody else, renames meanwhile. That is `openat`, which
 * Node does not have.
 */
import { type BigIntStats, constants } from "node:fs";
import * as fs from "node:fs/promises";
import { Errno, P9Error, type Qid, QidType } from "./protocol.ts";

/** Linux's, the same on x86 and Arm; Node does not name it. */
const O_PATH = 0o10000000;
const { O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = constants;
/** Descriptors are shared with all else that this process has open. */
const MAX_NODES = 2048;
const S_IFMT = 0o170000n;

/** A file or directory that is held, with the directories above it. Who uses its descriptor does so within `use`, as numbers of descriptors come again. */
export class ShareNode {
  /** Undefined for the root. */
  readonly parent: ShareNode | undefined;
  /** As it was when the node was found; bytes, one character each. */
  readonly name: string;
  readonly #share: Share;
  readonly #handle: fs.FileHandle;
  #holders = 1;

  constructor(share: Share, handle: fs.FileHandle, parent: ShareNode | undefined, name: string) {
    this.#share = share;
    this.#handle = handle;
    this.parent = parent?.hold();
    this.name = name;
  }

  hold(): this {
    this.#holders++;
    return this;
  }

  /** Never rejects. */
  async release(): Promise<void> {
    if (--this.#holders > 0) return;
    this.#share.forget();
    await this.#handle.close().catch(() => {});
    await this.parent?.release();
  }

  async use<T>(body: (path: string) => Promise<T>): Promise<T> {
    this.hold();
    try {
      return await body(`/proc/self/fd/${this.#handle.fd}`);
    } finally {
      await this.release();
    }
  }

  /** Runs `body` with the path of a name in this directory; the path's last part is to be looked up without following it. */
  at<T>(name: string, body: (path: Buffer) => Promise<T>): Promise<T> {
    return this.use((path) => body(Buffer.from(`${path}/${name}`, "latin1")));
  }

  /** The same with this node's own name, which may be another file's by now. */
  atOwnName<T>(body: (path: Buffer) => Promise<T>): Promise<T> {
    if (this.parent === undefined) throw new P9Error(Errno.EINVAL);
    return this.parent.at(this.name, body);
  }

  stat(): Promise<BigIntStats> {
    return this.use(() => this.#handle.stat({ bigint: true }));
  }

  /** Opens the file itself. @throws P9Error  it is neither a file nor a directory: devices and pipes are the host's own */
  async open(flags: number): Promise<fs.FileHandle> {
    const stats = await this.stat();
    if (!stats.isFile() && !stats.isDirectory()) throw new P9Error(Errno.EACCES);
    return this.use((path) => fs.open(path, flags | O_NONBLOCK));
  }
}

export class Share {
  readonly readOnly: boolean;
  readonly #path: string;
  #nodes = 0;

  constructor(path: string, readOnly: boolean) {
    this.#path = path;
    this.readOnly = readOnly;
  }

  /** @throws Error  there is no such folder */
  async root(): Promise<ShareNode> {
    return this.#node(() => fs.open(this.#path, O_PATH | O_DIRECTORY), undefined, "");
  }

  /** What has a name in a directory. @throws P9Error, or the host's error */
  find(parent: ShareNode, name: string): Promise<ShareNode> {
    return this.#node(() => parent.at(name, (path) => fs.open(path, O_PATH | O_NOFOLLOW)), parent, name);
  }

  /** Makes and opens a file. */
  async create(
    parent: ShareNode,
    name: string,
    flags: number,
    mode: number,
  ): Promise<{ node: ShareNode; file: fs.FileHandle }> {
    const file = await parent.at(name, (path) => fs.open(path, flags | O_NOFOLLOW | O_NONBLOCK, mode));
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw new P9Error(Errno.EACCES);
      const node = await this.#node(() => fs.open(`/proc/self/fd/${file.fd}`, O_PATH), parent, name);
      return { node, file };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async #node(open: () => Promise<fs.FileHandle>, parent: ShareNode | undefined, name: string): Promise<ShareNode> {
    if (this.#nodes >= MAX_NODES) throw new P9Error(Errno.ENFILE);
    this.#nodes++;
    try {
      return new ShareNode(this, await open(), parent, name);
    } catch (error) {
      this.#nodes--;
      throw error;
    }
  }

  /** For nodes that were closed. */
  forget(): void {
    this.#nodes--;
  }

  /** Nodes that are held. */
  get nodes(): number {
    return this.#nodes;
  }
}

export function qidOf(stats: Pick<BigIntStats, "mode" | "ino" | "dev" | "mtimeNs">): Qid {
  const kind = stats.mode & S_IFMT;
  const type = kind === 0o040000n ? QidType.directory : kind === 0o120000n ? QidType.symlink : QidType.file;
  // Numbers of files are their file system's own; what is mounted below the folder has another device.
  const path = BigInt.asUintN(64, stats.ino ^ (stats.dev << 40n));
  return { type, version: Number(BigInt.asUintN(32, stats.mtimeNs)), path };
}
