/** Where a vcpu was seen: linear address of the page, its frame, and the offset in it. */
export interface Spot {
  readonly page: number;
  readonly frame: number;
  readonly offset: number;
}

/** Numbers spots by where they are in memory. */
export const keyOf = ({ frame, offset }: Pick<Spot, "frame" | "offset">): number => frame * 4096 + offset;
