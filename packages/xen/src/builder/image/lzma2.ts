/**
 * LZMA2 decoder: the compressed core of an xz block.
 *
 * The whole output lies in one array, which serves as the dictionary too, so nothing is ever copied out of a window.
 * Probabilities are adaptive 11-bit numbers; one Uint16Array holds every model, at the offsets below.
 *
 * @see https://tukaani.org/xz/xz-file-format.txt §5.3.1, and the LZMA specification of the LZMA SDK
 */

/** The stream breaks the format's rules, or ends early. */
export class LzmaError extends Error {
  override readonly name = "LzmaError";
}

const MODEL_TOTAL = 2048;
const MOVE_BITS = 5;
const TOP = 0x1000000;

const POS_STATES_MAX = 16;
const STATES = 12;
const MATCH_MIN_BYTES = 2;
/** From this length on, calling copyWithin is faster than a loop. */
const COPY_CALL_BYTES = 64;

// Offsets into the model array. A length coder is choice, choice2, low[16][8], mid[16][8], high[256].
const LEN_LOW = 2;
const LEN_MID = LEN_LOW + POS_STATES_MAX * 8;
const LEN_HIGH = LEN_MID + POS_STATES_MAX * 8;
const LEN_MODELS = LEN_HIGH + 256;
const IS_MATCH = 0;
const IS_REP = IS_MATCH + STATES * POS_STATES_MAX;
const IS_REP_G0 = IS_REP + STATES;
const IS_REP_G1 = IS_REP_G0 + STATES;
const IS_REP_G2 = IS_REP_G1 + STATES;
const IS_REP0_LONG = IS_REP_G2 + STATES;
const POS_SLOT = IS_REP0_LONG + STATES * POS_STATES_MAX;
const POS_SPECIAL = POS_SLOT + 4 * 64;
const ALIGN = POS_SPECIAL + 128;
const MATCH_LEN = ALIGN + 16;
const REP_LEN = MATCH_LEN + LEN_MODELS;
const LITERAL = REP_LEN + LEN_MODELS;
const LITERAL_CODERS_MAX = 16; // lc + lp ≤ 4 in LZMA2
const MODELS = LITERAL + 0x300 * LITERAL_CODERS_MAX;

/** One xz block's LZMA2 decoder. `decode` may be called once. */
export class Lzma2Decoder {
  readonly #models = new Uint16Array(MODELS);
  readonly #input: Uint8Array;
  readonly #output: Uint8Array;
  /** Where the next byte is read from `input`. */
  position: number;
  /** Where the next byte goes in `output`. */
  produced: number;

  #dictionaryStart: number;
  #range = 0;
  #code = 0;
  #lc = 0;
  #literalPosMask = 0;
  #posMask = 0;
  #state = 0;
  #rep0 = 0;
  #rep1 = 0;
  #rep2 = 0;
  #rep3 = 0;

  /**
   * @param input   holds the chunks, from `position` on
   * @param output  receives the bytes, from `produced` on; large enough for the whole block
   */
  constructor(input: Uint8Array, position: number, output: Uint8Array, produced: number) {
    this.#input = input;
    this.#output = output;
    this.position = position;
    this.produced = produced;
    this.#dictionaryStart = produced;
  }

  /**
   * Decodes chunks until the end marker.
   * @param enough  asked after each chunk with the output so far; true stops early
   * @returns true when the end marker was read, false when stopped early
   * @throws  LzmaError
   */
  decode(enough?: (output: Uint8Array, produced: number) => boolean): boolean {
    const input = this.#input;
    let needDictionaryReset = true;
    let needProperties = true;
    for (;;) {
      const control = this.#byte();
      if (control === 0) return true;
      if (control >= 0xe0 || control === 1) {
        needDictionaryReset = false;
        needProperties = true;
        this.#dictionaryStart = this.produced;
      } else if (needDictionaryReset) {
        throw new LzmaError(`first LZMA2 chunk has control 0x${control.toString(16)}, expected a dictionary reset`);
      }
      if (control >= 0x80) {
        const unpackedBytes = (((control & 0x1f) << 16) | (this.#byte() << 8) | this.#byte()) + 1;
        const packedBytes = ((this.#byte() << 8) | this.#byte()) + 1;
        if (control >= 0xc0) {
          this.#setProperties(this.#byte());
          needProperties = false;
        } else if (needProperties) {
          throw new LzmaError("LZMA2 chunk has no properties, expected them after a dictionary reset");
        }
        if (control >= 0xa0) this.#resetState();
        this.#checkRoom(unpackedBytes);
        const end = this.position + packedBytes;
        if (end > input.length) throw new LzmaError(`LZMA2 chunk ends at byte ${end}, expected ≤ ${input.length}`);
        this.#startRange();
        this.#decodeChunk(this.produced + unpackedBytes);
        if (this.position !== end) throw new LzmaError(`LZMA2 chunk used ${this.position} bytes, expected ${end}`);
      } else if (control <= 2) {
        const bytes = ((this.#byte() << 8) | this.#byte()) + 1;
        this.#checkRoom(bytes);
        if (this.position + bytes > input.length) throw new LzmaError("stored LZMA2 chunk is truncated");
        this.#output.set(input.subarray(this.position, this.position + bytes), this.produced);
        this.position += bytes;
        this.produced += bytes;
      } else {
        throw new LzmaError(`LZMA2 control byte is 0x${control.toString(16)}, expected 0 to 2 or ≥ 0x80`);
      }
      if (enough?.(this.#output, this.produced)) return false;
    }
  }

  #byte(): number {
    if (this.position >= this.#input.length)
      throw new LzmaError(`LZMA2 data ends at byte ${this.position}, expected more`);
    return this.#input[this.position++]!;
  }

  #checkRoom(bytes: number): void {
    if (this.produced + bytes > this.#output.length) {
      throw new LzmaError(`LZMA2 data unpacks to more than the ${this.#output.length} bytes the index declares`);
    }
  }

  #setProperties(properties: number): void {
    const lc = properties % 9;
    const rest = Math.floor(properties / 9);
    const lp = rest % 5;
    const pb = Math.floor(rest / 5);
    if (pb > 4 || lc + lp > 4)
      throw new LzmaError(`LZMA2 properties are 0x${properties.toString(16)}, expected pb ≤ 4, lc + lp ≤ 4`);
    this.#lc = lc;
    this.#literalPosMask = (1 << lp) - 1;
    this.#posMask = (1 << pb) - 1;
  }

  #resetState(): void {
    this.#models.fill(MODEL_TOTAL / 2);
    this.#state = 0;
    this.#rep0 = this.#rep1 = this.#rep2 = this.#rep3 = 0;
  }

  #startRange(): void {
    if (this.#byte() !== 0) throw new LzmaError("LZMA chunk starts with a byte other than 0");
    this.#code = ((this.#byte() << 24) | (this.#byte() << 16) | (this.#byte() << 8) | this.#byte()) >>> 0;
    this.#range = 0xffffffff;
  }

  #bit(model: number): 0 | 1 {
    const probability = this.#models[model]!;
    const bound = Math.imul(this.#range >>> 11, probability) >>> 0;
    let bit: 0 | 1;
    if (this.#code < bound) {
      this.#range = bound;
      this.#models[model] = probability + ((MODEL_TOTAL - probability) >> MOVE_BITS);
      bit = 0;
    } else {
      this.#range = (this.#range - bound) >>> 0;
      this.#code = (this.#code - bound) >>> 0;
      this.#models[model] = probability - (probability >> MOVE_BITS);
      bit = 1;
    }
    if (this.#range < TOP) {
      this.#range = (this.#range << 8) >>> 0;
      this.#code = ((this.#code << 8) | this.#input[this.position++]!) >>> 0;
    }
    return bit;
  }

  #tree(base: number, bits: number): number {
    let symbol = 1;
    for (let i = 0; i < bits; i++) symbol = (symbol << 1) | this.#bit(base + symbol);
    return symbol - (1 << bits);
  }

  #reverseTree(base: number, bits: number): number {
    let symbol = 1;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.#bit(base + symbol);
      symbol = (symbol << 1) | bit;
      value |= bit << i;
    }
    return value;
  }

  #direct(bits: number): number {
    let value = 0;
    for (let i = 0; i < bits; i++) {
      this.#range >>>= 1;
      const bit = this.#code >= this.#range ? 1 : 0;
      if (bit) this.#code = (this.#code - this.#range) >>> 0;
      value = (value << 1) | bit;
      if (this.#range < TOP) {
        this.#range = (this.#range << 8) >>> 0;
        this.#code = ((this.#code << 8) | this.#input[this.position++]!) >>> 0;
      }
    }
    return value >>> 0;
  }

  #length(coder: number, posState: number): number {
    if (this.#bit(coder) === 0) return MATCH_MIN_BYTES + this.#tree(coder + LEN_LOW + posState * 8, 3);
    if (this.#bit(coder + 1) === 0) return MATCH_MIN_BYTES + 8 + this.#tree(coder + LEN_MID + posState * 8, 3);
    return MATCH_MIN_BYTES + 16 + this.#tree(coder + LEN_HIGH, 8);
  }

  #distance(length: number): number {
    const slot = this.#tree(POS_SLOT + Math.min(length - MATCH_MIN_BYTES, 3) * 64, 6);
    if (slot < 4) return slot;
    const footerBits = (slot >> 1) - 1;
    const base = ((2 | (slot & 1)) << footerBits) >>> 0;
    if (slot < 14) return base + this.#reverseTree(POS_SPECIAL + base - slot, footerBits);
    return base + this.#direct(footerBits - 4) * 16 + this.#reverseTree(ALIGN, 4);
  }

  /** The literal loop keeps its state in locals: two thirds of the decoder's time is spent here. */
  #literal(at: number): void {
    const models = this.#models;
    const input = this.#input;
    const output = this.#output;
    let range = this.#range;
    let code = this.#code;
    let position = this.position;
    const offset = at - this.#dictionaryStart;
    const previous = offset > 0 ? output[at - 1]! : 0;
    const coder = ((offset & this.#literalPosMask) << this.#lc) + (previous >> (8 - this.#lc));
    const base = LITERAL + 0x300 * coder;
    // After a match the byte at rep0 steers the choice of models until the first bit that differs.
    let matchByte = this.#state >= 7 ? output[at - this.#rep0 - 1]! : 0;
    let steer = this.#state >= 7 ? 0x100 : 0;
    let symbol = 1;
    do {
      matchByte <<= 1;
      const matchBit = matchByte & steer;
      const model = base + steer + matchBit + symbol;
      const probability = models[model]!;
      const bound = Math.imul(range >>> 11, probability) >>> 0;
      if (code < bound) {
        range = bound;
        models[model] = probability + ((MODEL_TOTAL - probability) >> MOVE_BITS);
        symbol <<= 1;
        steer &= ~matchBit;
      } else {
        range = (range - bound) >>> 0;
        code = (code - bound) >>> 0;
        models[model] = probability - (probability >> MOVE_BITS);
        symbol = (symbol << 1) | 1;
        steer &= matchBit;
      }
      if (range < TOP) {
        range = (range << 8) >>> 0;
        code = ((code << 8) | input[position++]!) >>> 0;
      }
    } while (symbol < 0x100);
    this.#range = range;
    this.#code = code;
    this.position = position;
    output[at] = symbol;
  }

  /** Moves the chosen repeat distance into rep0. True for the one-byte repeat of rep0, which has no length. */
  #isShortRepeat(state: number, posState: number): boolean {
    if (this.#bit(IS_REP_G0 + state) === 0) return this.#bit(IS_REP0_LONG + state * POS_STATES_MAX + posState) === 0;
    let distance: number;
    if (this.#bit(IS_REP_G1 + state) === 0) {
      distance = this.#rep1;
    } else {
      if (this.#bit(IS_REP_G2 + state) === 0) {
        distance = this.#rep2;
      } else {
        distance = this.#rep3;
        this.#rep3 = this.#rep2;
      }
      this.#rep2 = this.#rep1;
    }
    this.#rep1 = this.#rep0;
    this.#rep0 = distance;
    return false;
  }

  #decodeChunk(end: number): void {
    const output = this.#output;
    let at = this.produced;
    while (at < end) {
      const posState = (at - this.#dictionaryStart) & this.#posMask;
      const state = this.#state;
      if (this.#bit(IS_MATCH + state * POS_STATES_MAX + posState) === 0) {
        this.#literal(at++);
        this.#state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
        continue;
      }
      let length: number;
      if (this.#bit(IS_REP + state) === 0) {
        this.#rep3 = this.#rep2;
        this.#rep2 = this.#rep1;
        this.#rep1 = this.#rep0;
        length = this.#length(MATCH_LEN, posState);
        this.#rep0 = this.#distance(length);
        this.#state = state < 7 ? 7 : 10;
      } else if (this.#isShortRepeat(state, posState)) {
        length = 1;
        this.#state = state < 7 ? 9 : 11;
      } else {
        length = this.#length(REP_LEN, posState);
        this.#state = state < 7 ? 8 : 11;
      }
      const distance = this.#rep0 + 1;
      if (distance > at - this.#dictionaryStart) {
        throw new LzmaError(`LZMA match reaches back ${distance} bytes, expected ≤ ${at - this.#dictionaryStart}`);
      }
      if (at + length > end) throw new LzmaError("LZMA match runs past its chunk");
      if (distance >= length && length >= COPY_CALL_BYTES) output.copyWithin(at, at - distance, at - distance + length);
      else for (let i = 0; i < length; i++) output[at + i] = output[at + i - distance]!;
      at += length;
    }
    this.produced = at;
  }
}
