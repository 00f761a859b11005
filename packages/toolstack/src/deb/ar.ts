/** Unix `ar` archives, the outer format of a .deb. */

export interface ArMember {
  readonly name: string;
  readonly bytes: Uint8Array;
}

const MAGIC = "!<arch>\n";
const HEADER_BYTES = 60;

/**
 * Lists an archive's members as views of `bytes`.
 * @throws Error  not an archive, or truncated
 * @see    deb(5), ar(5)
 */
export function readAr(bytes: Uint8Array): ArMember[] {
  const text = (from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString("latin1");
  if (text(0, MAGIC.length) !== MAGIC) throw new Error("file is no ar archive");
  const members: ArMember[] = [];
  for (let at = MAGIC.length; at < bytes.length; ) {
    const name = text(at, at + 16)
      .trimEnd()
      .replace(/\/$/, "");
    const size = Number(text(at + 48, at + 58));
    const start = at + HEADER_BYTES;
    if (text(at + 58, at + 60) !== "`\n" || !Number.isInteger(size))
      throw new Error(`ar archive has no header at byte ${at}`);
    if (start + size > bytes.length) {
      throw new Error(`ar member ${name} ends at byte ${start + size}, but the archive is ${bytes.length} bytes`);
    }
    members.push({ name, bytes: bytes.subarray(start, start + size) });
    at = start + size + (size & 1);
  }
  return members;
}
