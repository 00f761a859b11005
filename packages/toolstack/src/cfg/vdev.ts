/**
 * Names of a guest's disks, and the numbers by which xenstore knows them.
 *
 *     xvda, xvdb2, d1p2   Xen's own disks        sda1   SCSI's names        hdc   IDE's names
 *     51712, 0xca00, 0145000                     the number itself
 *
 * @see xen-vbd-interface(7)
 */

const MAX_DISK = 2 ** 20 - 1;
const MAX_PARTITION = 255;
const EXTENDED = 2 ** 28;

/** The disk's number; undefined if there is no disk of that name. */
export function vdevNumber(vdev: string): number | undefined {
  const direct = /^(0x[0-9a-f]+|\d+)$/i.exec(vdev);
  if (direct !== null) return directNumber(vdev);
  const xen = /^d(\d{1,7})(?:p(\d{1,3}))?$/.exec(vdev);
  if (xen !== null) return xvdNumber(Number(xen[1]), Number(xen[2] ?? 0));
  const match = /^(xvd|sd|hd)([a-z]{1,5})(\d{1,3})?$/.exec(vdev);
  if (match === null) return undefined;
  const disk = lettersToNumber(match[2]!);
  const partition = Number(match[3] ?? 0);
  if (match[1] === "xvd") return xvdNumber(disk, partition);
  if (match[1] === "sd") return disk > 15 || partition > 15 ? undefined : (8 << 8) | (disk << 4) | partition;
  if (disk > 3 || partition > 63) return undefined;
  return disk < 2 ? (3 << 8) | (disk << 6) | partition : (22 << 8) | ((disk - 2) << 6) | partition;
}

function directNumber(text: string): number | undefined {
  const octal = /^0[0-7]+$/.test(text);
  const value = octal ? Number.parseInt(text, 8) : Number(text);
  return value > 0 && value < 2 * EXTENDED ? value : undefined;
}

function xvdNumber(disk: number, partition: number): number | undefined {
  if (disk > MAX_DISK || partition > MAX_PARTITION) return undefined;
  if (disk > 15 || partition > 15) return EXTENDED + disk * 256 + partition;
  return (202 << 8) | (disk << 4) | partition;
}

/** a is 0, z is 25, aa is 26. */
function lettersToNumber(letters: string): number {
  let value = 0;
  for (const letter of letters) value = value * 26 + letter.charCodeAt(0) - 96;
  return value - 1;
}
