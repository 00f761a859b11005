/** The header `Prefer`: RFC 7240. What is not understood is passed over, as it says. */

export interface Preference {
  /** Answer at once, and let the work go on. */
  readonly isAsync: boolean;
  /** But wait so long for its end. */
  readonly waitSeconds?: number;
}

const MAX_WAIT_SECONDS = 600;

export function preferenceOf(header: string | readonly string[] | undefined): Preference {
  const words = String(header ?? "")
    .split(/[,;]/)
    .map((word) => word.trim().toLowerCase());
  const wait = words.map((word) => /^wait\s*=\s*"?(\d{1,6})"?$/.exec(word)?.[1]).find((found) => found !== undefined);
  return {
    isAsync: words.includes("respond-async"),
    ...(wait !== undefined && { waitSeconds: Math.min(Number(wait), MAX_WAIT_SECONDS) }),
  };
}
