/** A Packages file, searchable by name. */
import { PackageError, type PackageRecord, parseDepends, parseStanzas, recordOf } from "./package-source.ts";

export class PackageIndex {
  readonly #text: string;
  /** Where each package's last stanza begins. Only those that are asked for are read further. */
  readonly #starts = new Map<string, number>();
  #providers: Map<string, string[]> | undefined;

  constructor(text: string) {
    this.#text = text;
    for (const match of text.matchAll(/^Package: (\S+)$/gm)) this.#starts.set(match[1]!, match.index);
  }

  find(name: string): PackageRecord | undefined {
    const start = this.#starts.get(name);
    if (start === undefined) return undefined;
    const end = this.#text.indexOf("\n\n", start);
    const [stanza] = parseStanzas(this.#text.slice(start, end === -1 ? undefined : end));
    return stanza && recordOf(stanza);
  }

  /** Packages that stand for a virtual name. */
  providersOf(name: string): readonly string[] {
    this.#providers ??= this.#readProviders();
    return this.#providers.get(name) ?? [];
  }

  #readProviders(): Map<string, string[]> {
    const providers = new Map<string, string[]>();
    for (const match of this.#text.matchAll(/^(?:Package|Provides): .+$/gm)) {
      const line = match[0];
      if (line.startsWith("Package: ")) {
        providers.set("", [line.slice("Package: ".length)]);
        continue;
      }
      for (const virtual of parseDepends(line.slice("Provides: ".length)).flat()) {
        const known = providers.get(virtual) ?? [];
        providers.set(virtual, [...known, ...providers.get("")!]);
      }
    }
    providers.delete("");
    return providers;
  }
}

/**
 * The packages and all they depend on. Of alternatives the first that exists is taken, unless another is in already;
 * versions are not compared, as one suite agrees with itself.
 * @throws PackageError  a dependency cannot be met
 */
export function closureOf(index: PackageIndex, names: readonly string[]): PackageRecord[] {
  const chosen = new Map<string, PackageRecord>();
  const queue = names.map((name) => ({ alternatives: [name], wantedBy: "the request" }));
  for (let clause = queue.shift(); clause !== undefined; clause = queue.shift()) {
    const candidates = clause.alternatives.flatMap((name) => (index.find(name) ? [name] : index.providersOf(name)));
    if (candidates.some((name) => chosen.has(name))) continue;
    const name = candidates[0];
    const record = name === undefined ? undefined : index.find(name);
    if (record === undefined) {
      throw new PackageError(
        `package ${clause.alternatives.join(" | ")}: is wanted by ${clause.wantedBy} and not in the archive`,
      );
    }
    chosen.set(record.name, record);
    for (const alternatives of parseDepends(record.depends)) queue.push({ alternatives, wantedBy: record.name });
  }
  return [...chosen.values()];
}
