/**
 * The messages of 9P2000.L, as Linux speaks it.
 * @see Linux, include/net/9p/9p.h; diod's protocol.md, "9P2000.L extensions"
 */

/** Requests; an answer has the next number. */
export const P9 = {
  statfs: 8,
  lopen: 12,
  lcreate: 14,
  symlink: 16,
  mknod: 18,
  rename: 20,
  readlink: 22,
  getattr: 24,
  setattr: 26,
  xattrwalk: 30,
  xattrcreate: 32,
  readdir: 40,
  fsync: 50,
  lock: 52,
  getlock: 54,
  link: 70,
  mkdir: 72,
  renameat: 74,
  unlinkat: 76,
  version: 100,
  auth: 102,
  attach: 104,
  flush: 108,
  walk: 110,
  read: 116,
  write: 118,
  clunk: 120,
  remove: 122,
} as const;

export const RLERROR = 7;
export const VERSION = "9P2000.L";
/** Size, type and tag. */
export const HEADER_BYTES = 7;
/** Of an answer to read and readdir, before the bytes. */
export const READ_HEADER_BYTES = HEADER_BYTES + 4;
export const MIN_MESSAGE_BYTES = 4096;
export const MAX_WALK = 16;
export const NO_FID = 0xffffffff;

/** Errnos as Linux has them, whatever the host's are. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  EBADF: 9,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EROFS: 30,
  EPROTO: 71,
  EOPNOTSUPP: 95,
} as const;

/** What a request is refused for. */
export class P9Error extends Error {
  override readonly name = "P9Error";
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

export const AttrValid = {
  mode: 0x1,
  uid: 0x2,
  gid: 0x4,
  size: 0x8,
  atime: 0x10,
  mtime: 0x20,
  atimeSet: 0x80,
  mtimeSet: 0x100,
} as const;

/** Of `getattr`: all that is older than times of birth. */
export const ATTR_BASIC = 0x7ffn;
export const AT_REMOVEDIR = 0x200;
export const LOCK_SUCCESS = 0;
export const F_UNLCK = 2;

/** Bits of `lopen` and `lcreate`, as Linux on x86 numbers them. */
export const OpenFlag = { accessMode: 0o3, wronly: 0o1, rdwr: 0o2, excl: 0o200, trunc: 0o1000 } as const;

export interface Qid {
  readonly type: number;
  readonly version: number;
  readonly path: bigint;
}

export const QidType = { directory: 0x80, symlink: 0x02, file: 0x00 } as const;

/** Takes a request apart. Names are bytes, one character each. */
export class RequestReader {
  readonly #bytes: Buffer;
  #at = HEADER_BYTES;

  /** @param bytes  a whole message, our own copy */
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get type(): number {
    return this.#bytes[4]!;
  }

  get tag(): number {
    return this.#bytes.readUInt16LE(5);
  }

  #take(count: number): number {
    const at = this.#at;
    if (at + count > this.#bytes.length) throw new P9Error(Errno.EPROTO);
    this.#at = at + count;
    return at;
  }

  u8(): number {
    return this.#bytes.readUInt8(this.#take(1));
  }

  u16(): number {
    return this.#bytes.readUInt16LE(this.#take(2));
  }

  u32(): number {
    return this.#bytes.readUInt32LE(this.#take(4));
  }

  u64(): bigint {
    return this.#bytes.readBigUInt64LE(this.#take(8));
  }

  /** Of a file's offset or size, which JavaScript's numbers hold up to 8 PiB. */
  offset(): number {
    const value = this.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new P9Error(Errno.EINVAL);
    return Number(value);
  }

  text(): string {
    const length = this.u16();
    return this.#bytes.toString("latin1", this.#take(length), this.#at);
  }

  /** A name for an entry of a directory: nothing that leads elsewhere. */
  name(): string {
    const name = this.text();
    if (name === "" || name === "." || name === ".." || /[/\0]/.test(name)) throw new P9Error(Errno.EINVAL);
    return name;
  }

  data(count: number): Buffer {
    const at = this.#take(count);
    return this.#bytes.subarray(at, at + count);
  }
}

/** Puts an answer together. */
export class ReplyWriter {
  readonly #parts: Buffer[] = [];

  #put(size: number, write: (bytes: Buffer) => void): this {
    const bytes = Buffer.alloc(size);
    write(bytes);
    this.#parts.push(bytes);
    return this;
  }

  u8 = (value: number): this => this.#put(1, (bytes) => bytes.writeUInt8(value));
  u16 = (value: number): this => this.#put(2, (bytes) => bytes.writeUInt16LE(value));
  u32 = (value: number): this => this.#put(4, (bytes) => bytes.writeUInt32LE(value >>> 0));
  u64 = (value: bigint | number): this =>
    this.#put(8, (bytes) => bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value))));

  text(value: string): this {
    const bytes = Buffer.from(value, "latin1");
    return this.u16(bytes.length).data(bytes);
  }

  qid({ type, version, path }: Qid): this {
    return this.u8(type).u32(version).u64(path);
  }

  data(bytes: Uint8Array): this {
    this.#parts.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    return this;
  }

  get lengthBytes(): number {
    return this.#parts.reduce((sum, { length }) => sum + length, 0);
  }

  /** The whole message. */
  finish(type: number, tag: number): Buffer {
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(HEADER_BYTES + this.lengthBytes, 0);
    header.writeUInt8(type, 4);
    header.writeUInt16LE(tag, 5);
    return Buffer.concat([header, ...this.#parts]);
  }
}
