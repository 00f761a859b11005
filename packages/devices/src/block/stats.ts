/** What a disk has done for its guest; counts only grow. */
export interface BlockStats {
  reads: number;
  writes: number;
  flushes: number;
  discards: number;
  /** Requests that failed or were refused. */
  errors: number;
  readBytes: number;
  writtenBytes: number;
}

export const noStats = (): BlockStats => ({
  reads: 0,
  writes: 0,
  flushes: 0,
  discards: 0,
  errors: 0,
  readBytes: 0,
  writtenBytes: 0,
});
