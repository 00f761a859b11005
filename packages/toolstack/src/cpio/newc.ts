/**
 * Writer for cpio archives of the "newc" format, which Linux unpacks as its first root file system.
 *
 * @see Documentation/driver-api/early-userspace/buffer-format.rst of Linux
 */

export type CpioEntry = {
  /** Relative, without "/" in front. Parents must come first, as the kernel makes no directories by itself. */
  readonly path: string;
  /** Permission bits, e.g. 0o755. */
  readonly mode: number;
} & (
  | { readonly type: "directory" }
  | { readonly type: "file"; readonly data: Uint8Array }
  | { readonly type: "symlink"; readonly target: string }
  | { readonly type: "char-device" | "block-device"; readonly major: number; readonly minor: number }
);

/** File type bits of st_mode. */
const TYPE_BITS = {
  directory: 0o040000,
  file: 0o100000,
  symlink: 0o120000,
  "char-device": 0o020000,
  "block-device": 0o060000,
} as const;

const TRAILER = "TRAILER!!!";
/** Limit of the kernel's unpacker for a name. */
const PATH_MAX_BYTES = 4095;

/**
 * Makes an archive; equal entries give equal bytes, as times and owners are all zero.
 * @throws Error  a path is empty, absolute or too long, or a file is 4 GiB or larger
 */
export function writeNewc(entries: Iterable<CpioEntry>): Uint8Array {
  const parts: Uint8Array[] = [];
  let inode = 1;
  for (const entry of entries) {
    const nameBytes = Buffer.byteLength(entry.path);
    if (nameBytes === 0 || nameBytes > PATH_MAX_BYTES || entry.path.startsWith("/")) {
      throw new Error(
        `cpio entry is called ${JSON.stringify(entry.path)}, expected a relative path of 1 to 4095 bytes`,
      );
    }
    const data =
      entry.type === "file" ? entry.data : entry.type === "symlink" ? Buffer.from(entry.target) : new Uint8Array();
    if (data.length >= 2 ** 32) throw new Error(`cpio entry ${entry.path} is ${data.length} bytes, expected < 4 GiB`);
    const device = "major" in entry ? entry : { major: 0, minor: 0 };
    const mode = TYPE_BITS[entry.type] | (entry.mode & 0o7777);
    const links = entry.type === "directory" ? 2 : 1;
    parts.push(
      header(inode++, mode, links, data.length, device.major, device.minor, entry.path),
      data,
      padding(data.length),
    );
  }
  parts.push(header(0, 0, 1, 0, 0, 0, TRAILER));
  return Buffer.concat(parts);
}

function header(
  inode: number,
  mode: number,
  links: number,
  size: number,
  major: number,
  minor: number,
  path: string,
): Uint8Array {
  const name = Buffer.from(path + "\0");
  // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name.length, 0];
  const start = Buffer.from("070701" + fields.map((n) => n.toString(16).padStart(8, "0")).join(""));
  return Buffer.concat([start, name, padding(start.length + name.length)]);
}

const padding = (length: number): Uint8Array => new Uint8Array(-length & 3);
