/**
 * What the code segment allows of a page. 16- and 32-bit code may not run beyond CS's limit; instead of a check at every instruction,
 * a page is decoded for the part of it that lies within, and its code table is found only as long as CS says the same.
 */

/** Offsets of a page from `start` up to `end`; an `end` beyond the page counts bytes of the page behind it. */
export interface CodeWindow {
  readonly start: number;
  readonly end: number;
}

const PAGE_BYTES = 4096;
/** An instruction that begins in a page has its last byte before this offset. */
const MOST_BYTES = PAGE_BYTES + 15;

/** All of a page, and of any instruction that begins in it. */
export const WHOLE_PAGE: CodeWindow = { start: 0, end: Number.POSITIVE_INFINITY };
/** A CS with this limit allows everything. */
export const NO_LIMIT = 0xffffffff;
const NOTHING: CodeWindow = { start: 0, end: 0 };

/**
 * The window of the page at linear address `page`.
 * @param base   of CS, unsigned
 * @param limit  of CS, unsigned: the last offset that may be executed
 */
export function codeWindow(base: number, limit: number, page: number): CodeWindow {
  if (limit === NO_LIMIT) return WHOLE_PAGE;
  const offset = (page - base) >>> 0;
  if (offset <= limit) {
    const end = limit - offset + 1;
    return end >= MOST_BYTES ? WHOLE_PAGE : { start: 0, end };
  }
  // The segment may begin within the page.
  const start = base - page;
  if (start < 0 || start >= PAGE_BYTES) return NOTHING;
  return { start, end: start + limit + 1 };
}

/** How a page is to be decoded: a mode (see `CodeMode`) and what CS allows. */
export interface DecodeView {
  readonly codeMode: number;
  readonly window: CodeWindow;
}

/** A number that tells views of a page apart; the mode itself for views of whole pages. */
export function viewKey({ codeMode, window }: DecodeView): number {
  if (window === WHOLE_PAGE) return codeMode;
  const end = Math.min(window.end, MOST_BYTES);
  return codeMode + 256 * (1 + window.start * 8192 + end);
}
