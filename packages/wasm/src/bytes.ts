/** A growing byte buffer with the encodings that WebAssembly's binary format uses. */
export class ByteWriter {
  bytes: Uint8Array<ArrayBuffer>;
  length = 0;

  constructor(capacityBytes = 256) {
    this.bytes = new Uint8Array(capacityBytes);
  }

  private grow(need: number): void {
    let size = this.bytes.length * 2;
    while (size < this.length + need) size *= 2;
    const bigger = new Uint8Array(size);
    bigger.set(this.bytes.subarray(0, this.length));
    this.bytes = bigger;
  }

  u8(value: number): void {
    if (this.length === this.bytes.length) this.grow(1);
    this.bytes[this.length++] = value;
  }

  append(from: Uint8Array): void {
    if (this.length + from.length > this.bytes.length) this.grow(from.length);
    this.bytes.set(from, this.length);
    this.length += from.length;
  }

  /** Unsigned LEB128 of 0 ≤ value < 2^53. */
  uleb(value: number): void {
    let rest = value;
    while (rest >= 128) {
      this.u8((rest % 128) | 128);
      rest = Math.floor(rest / 128);
    }
    this.u8(rest);
  }

  /** Signed LEB128 of a 32-bit integer. */
  sleb32(value: number): void {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && !(low & 0x40)) || (rest === -1 && low & 0x40)) return this.u8(low);
      this.u8(low | 0x80);
    }
  }

  /** Signed LEB128 of a 64-bit integer given as two 32-bit halves. */
  sleb64(lo: number, hi: number): void {
    let low = lo | 0;
    let high = hi | 0;
    for (;;) {
      const seven = low & 0x7f;
      low = (low >>> 7) | (high << 25);
      high >>= 7;
      const negative = seven & 0x40;
      if ((low === 0 && high === 0 && !negative) || (low === -1 && high === -1 && negative)) return this.u8(seven);
      this.u8(seven | 0x80);
    }
  }

  /** A name: its UTF-8 length, then the bytes. */
  name(text: string): void {
    const utf8 = new TextEncoder().encode(text);
    this.uleb(utf8.length);
    this.append(utf8);
  }

  view(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(0, this.length);
  }
}
