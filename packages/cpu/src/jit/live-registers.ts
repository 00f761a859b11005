/** Which general registers a region's function has to load. */

/** What a block does to the registers, as bits by their numbers. */
export interface BlockUse {
  /** Those whose values from before the block it may need. */
  exposed: number;
  /** Those that it writes, whatever way it takes. */
  defined: number;
}

/**
 * Registers that some way from an entry needs before it writes them. A load that nothing needs costs as much as another: V8 leaves it in, since it might trap.
 * @param uses        by block
 * @param successors  indices of the blocks that control may go on at within the region
 * @param entries     indices of blocks
 * @returns           bits by the registers' numbers
 */
export function liveAtEntries(
  uses: readonly BlockUse[],
  successors: (index: number) => readonly number[],
  entries: readonly number[],
): number {
  const live = uses.map(({ exposed }) => exposed);
  for (let changed = true; changed; ) {
    changed = false;
    // Blocks come before those that they lead to, but for loops.
    for (let index = uses.length - 1; index >= 0; index--) {
      const after = successors(index).reduce((all, next) => all | live[next], 0);
      const now = live[index] | (after & ~uses[index].defined);
      changed ||= now !== live[index];
      live[index] = now;
    }
  }
  return entries.reduce((all, index) => all | live[index], 0);
}
