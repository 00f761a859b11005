/** Where Debian packages come from: the machine's apt, or a mirror read directly. */

/** What an archive's index says of one package. */
export interface PackageRecord {
  readonly name: string;
  readonly version: string;
  /** Debian's dependency syntax, Pre-Depends and Depends joined; "" if none. */
  readonly depends: string;
  /** Names that this package stands for besides its own. */
  readonly provides: string;
  /** Path within the archive. */
  readonly filename: string;
  readonly sizeBytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
}

export interface PackageSource {
  /** A release's code name, e.g. "bookworm". */
  readonly suite: string;
  /**
   * Looks a package up; the newest version if there are several.
   * @throws PackageError  the archive has no such package
   */
  find(name: string): Promise<PackageRecord>;
  /** The packages and everything they depend on, recommendations left out. */
  closure(names: readonly string[]): Promise<PackageRecord[]>;
  /**
   * Fetches a package unless it is in the cache already.
   * @returns the path of the .deb, whose SHA-256 is the one in the record
   * @throws  PackageError  it cannot be fetched, or is not what the index says
   */
  download(record: PackageRecord): Promise<string>;
}

export class PackageError extends Error {
  override readonly name = "PackageError";
}

/** Called with one line for a person who waits. */
export type Progress = (line: string) => void;

/**
 * Reads Debian's control format: stanzas of "Field: value" divided by empty lines.
 * Continuation lines are joined with "\n".
 */
export function* parseStanzas(text: string): Generator<Map<string, string>> {
  let stanza = new Map<string, string>();
  let field = "";
  for (const line of text.split("\n")) {
    if (line.trim() === "") {
      if (stanza.size > 0) yield stanza;
      stanza = new Map();
      continue;
    }
    if (line.startsWith(" ") || line.startsWith("\t")) {
      stanza.set(field, `${stanza.get(field) ?? ""}\n${line.trim()}`);
      continue;
    }
    const colon = line.indexOf(":");
    if (colon === -1) continue;
    field = line.slice(0, colon);
    stanza.set(field, line.slice(colon + 1).trim());
  }
  if (stanza.size > 0) yield stanza;
}

/** Undefined if the stanza lacks what a download needs. */
export function recordOf(stanza: ReadonlyMap<string, string>): PackageRecord | undefined {
  const get = (field: string): string => stanza.get(field) ?? "";
  const sha256 = get("SHA256").toLowerCase();
  if (get("Package") === "" || get("Filename") === "" || !/^[0-9a-f]{64}$/.test(sha256)) return undefined;
  return {
    name: get("Package"),
    version: get("Version"),
    depends: [get("Pre-Depends"), get("Depends")].filter((text) => text !== "").join(", "),
    provides: get("Provides"),
    filename: get("Filename"),
    sizeBytes: Number(get("Size")),
    sha256,
  };
}

/** Alternatives of each dependency, without versions and architectures: "a | b (>= 1), c" is [["a", "b"], ["c"]]. */
export function parseDepends(depends: string): string[][] {
  return depends
    .split(",")
    .map((clause) =>
      clause.split("|").map((name) =>
        name
          .replace(/[[(<].*$/, "")
          .replace(/:any|:native/, "")
          .trim(),
      ),
    )
    .filter((names) => names[0] !== "");
}
