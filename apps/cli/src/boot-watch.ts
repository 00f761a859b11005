/** Finds the line in a console's output by which a guest says that its user space runs. */
export class BootWatch {
  readonly #marker: string;
  readonly #isPrompt: boolean;
  #line = "";
  #seen = false;

  /** @param isPrompt  whether the marker is a prompt, whose line does not end */
  constructor(marker: string, isPrompt = false) {
    this.#marker = marker;
    this.#isPrompt = isPrompt;
  }

  /**
   * Looks at the next piece of output.
   * @returns how many bytes of it belong up to the end of the marker's line, once; else undefined
   */
  feed(piece: Uint8Array): number | undefined {
    if (this.#seen) return undefined;
    for (let start = 0; start < piece.length; ) {
      const newline = piece.indexOf(0x0a, start);
      const end = newline === -1 ? piece.length : newline + 1;
      this.#line = (this.#line + Buffer.from(piece.subarray(start, end)).toString("latin1")).slice(-1024);
      if (newline === -1 && !this.#isPrompt) return undefined;
      this.#seen = this.#line.includes(this.#marker);
      if (this.#seen) return end;
      if (newline === -1) return undefined;
      this.#line = "";
      start = end;
    }
    return undefined;
  }
}
