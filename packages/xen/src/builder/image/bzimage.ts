/**
 * The bzImage wrapper of Linux: a real-mode setup part, then a decompressor that carries the compressed ELF file.
 *
 * @see Documentation/arch/x86/boot.rst of Linux, "The Real-Mode Kernel Header"
 */
import { KernelImageError } from "./errors.ts";

const BOOT_FLAG = 0x1fe; // u16, 0xaa55
const HEADER_MAGIC = 0x202; // "HdrS"
const PROTOCOL_VERSION = 0x206; // u16
const SETUP_SECTORS = 0x1f1; // u8, in 512-byte sectors without the boot sector; 0 means 4
const PAYLOAD_OFFSET = 0x248; // u32, from the start of the protected-mode part; protocol ≥ 2.08
const PAYLOAD_LENGTH = 0x24c; // u32

const SECTOR_BYTES = 512;

export function isBzImage(bytes: Uint8Array): boolean {
  return (
    bytes.length >= HEADER_MAGIC + 4 &&
    bytes[BOOT_FLAG] === 0x55 &&
    bytes[BOOT_FLAG + 1] === 0xaa &&
    Buffer.from(bytes.subarray(HEADER_MAGIC, HEADER_MAGIC + 4)).toString("latin1") === "HdrS"
  );
}

/**
 * Finds the compressed ELF file in a bzImage.
 * @returns the payload; its last four bytes may be the unpacked size, which Linux's build appends to all but gzip
 * @throws  KernelImageError  truncated, or not-a-kernel for a boot protocol before 2.08, which has no payload field
 */
export function bzImagePayload(bytes: Uint8Array, name: string): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < PAYLOAD_LENGTH + 4) {
    throw new KernelImageError(
      "truncated",
      `kernel ${name}: bzImage is ${bytes.length} bytes, its header alone needs 592`,
    );
  }
  const version = view.getUint16(PROTOCOL_VERSION, true);
  if (version < 0x208) {
    const text = `${version >> 8}.${(version & 0xff).toString().padStart(2, "0")}`;
    throw new KernelImageError(
      "not-a-kernel",
      `kernel ${name}: bzImage has boot protocol ${text}, expected 2.08 or later`,
    );
  }
  const setupBytes = ((bytes[SETUP_SECTORS] || 4) + 1) * SECTOR_BYTES;
  const start = setupBytes + view.getUint32(PAYLOAD_OFFSET, true);
  const end = start + view.getUint32(PAYLOAD_LENGTH, true);
  if (end > bytes.length) {
    throw new KernelImageError(
      "truncated",
      `kernel ${name}: file is ${bytes.length} bytes, but its payload ends at byte ${end}; it may be truncated`,
    );
  }
  return bytes.subarray(start, end);
}
