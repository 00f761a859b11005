/**
 * Debian packages through the machine's own apt, without installing anything and without being root.
 *
 * Apt gets a state folder of its own in the cache, with a source list made from the machine's: the same archive, but
 * for the asked suite. Its configuration (proxies, certificates) stays the machine's. Apt checks signatures and hashes.
 */
import { execFile } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { cacheDir, withLock } from "./cache.ts";
import { debPath, isCached, verifyDeb } from "./debs.ts";
import {
  PackageError,
  type PackageRecord,
  type PackageSource,
  type Progress,
  parseStanzas,
  recordOf,
} from "./package-source.ts";

const run = promisify(execFile);
const OUTPUT_MAX_BYTES = 64 << 20;
/** Lists older than this are fetched again; also whenever a download fails. */
const LISTS_MAX_AGE_MS = 24 * 3600 * 1000;
const KEYRINGS = ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];

/** The machine's Debian archive, as its apt is configured. */
export interface MachineArchive {
  /** The release it follows, e.g. "bookworm". */
  readonly suite: string;
  /** One-line sources of that release, with its security and update suites. */
  readonly sources: readonly AptEntry[];
}

interface AptEntry {
  readonly uri: string;
  readonly suite: string;
}

/** Reads the machine's apt sources; undefined where apt is absent or follows no Debian release. */
export async function machineArchive(): Promise<MachineArchive | undefined> {
  const format = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ARCHITECTURE)";
  const args = ["indextargets", "--format", format, "Created-By: Packages"];
  const output = await run("apt-get", args, { encoding: "utf8" }).catch(() => undefined);
  if (output === undefined) return undefined;
  const entries = output.stdout
    .split("\n")
    .map((line) => line.split(" "))
    .filter(
      ([uri, , component, arch]) =>
        /\/debian(-security)?\/?$/.test(uri ?? "") && component === "main" && arch === "amd64",
    )
    .map(([uri, suite]) => ({ uri: uri!, suite: suite! }));
  const main = entries.find(({ uri, suite }) => /\/debian\/?$/.test(uri) && /^[a-z]+$/.test(suite));
  if (main === undefined) return undefined;
  const related = [main.suite, `${main.suite}-updates`, `${main.suite}-security`];
  return { suite: main.suite, sources: entries.filter(({ suite }) => related.includes(suite)) };
}

export class AptSource implements PackageSource {
  readonly suite: string;
  readonly #root: string;
  readonly #debs: string;
  readonly #sourceList: string;
  readonly #progress: Progress;
  #ready: Promise<void> | undefined;
  readonly #records = new Map<string, PackageRecord>();

  /** @param suite  default: the machine's own, with its security updates */
  constructor(archive: MachineArchive, suite: string = archive.suite, progress: Progress = () => {}) {
    const own = suite === archive.suite;
    const main = archive.sources.find((entry) => entry.suite === archive.suite)!;
    const keyring = KEYRINGS.find((path) => existsSync(path));
    const signedBy = keyring === undefined ? "" : ` signed-by=${keyring}`;
    const entries = own ? archive.sources : [{ uri: main.uri, suite }];
    this.suite = suite;
    this.#progress = progress;
    this.#root = join(cacheDir(), "apt", suite);
    this.#debs = join(cacheDir(), "debs");
    this.#sourceList = entries.map((e) => `deb [arch=amd64${signedBy}] ${e.uri} ${e.suite} main\n`).join("");
  }

  async find(name: string): Promise<PackageRecord> {
    const [record] = await this.#show([name]);
    return record!;
  }

  async closure(names: readonly string[]): Promise<PackageRecord[]> {
    await this.#prepare();
    const args = ["install", "--print-uris", "-qq", "--yes", "--no-install-recommends", ...names];
    const output = await this.#apt("apt-get", args);
    const files = [...output.matchAll(/^'[^']*' ([^_]+)_\S+ \d+ /gm)].map((match) => match[1]!);
    return this.#show(files);
  }

  async download(record: PackageRecord): Promise<string> {
    const path = debPath(this.#debs, record);
    if (isCached(path, record)) return path;
    await this.#prepare();
    this.#progress(`fetching ${record.name} ${record.version} (${(record.sizeBytes / 1e6).toFixed(1)} MB)`);
    mkdirSync(this.#debs, { recursive: true });
    const folder = mkdtempSync(join(this.#debs, "partial-"));
    try {
      await this.#fetch(`${record.name}=${record.version}`, folder);
      const [file] = readdirSync(folder).filter((name) => name.endsWith(".deb"));
      if (file === undefined)
        throw new PackageError(`package ${record.name} ${record.version}: apt-get download left no file`);
      verifyDeb(readFileSync(join(folder, file)), record);
      renameSync(join(folder, file), path);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    return path;
  }

  /** A package that is gone from the archive means that the lists are older than it; they are then read again. */
  async #fetch(package_: string, folder: string): Promise<void> {
    const attempt = () => this.#apt("apt-get", ["download", "-qq", package_], folder);
    try {
      await attempt();
    } catch {
      await this.#update(true);
      await attempt();
    }
  }

  async #show(names: readonly string[]): Promise<PackageRecord[]> {
    await this.#prepare();
    const unknown = names.filter((name) => !this.#records.has(name));
    if (unknown.length > 0) {
      const text = await this.#apt("apt-cache", ["show", "--no-all-versions", ...unknown]).catch(() => "");
      for (const stanza of parseStanzas(text)) {
        const record = recordOf(stanza);
        if (record !== undefined) this.#records.set(record.name, record);
      }
    }
    return names.map((name) => {
      const record = this.#records.get(name);
      if (record === undefined) throw new PackageError(`package ${name}: Debian ${this.suite} has no such package`);
      return record;
    });
  }

  /** Fetches the package lists once per process if they are missing, old, or of other sources. */
  #prepare(): Promise<void> {
    this.#ready ??= this.#update();
    return this.#ready;
  }

  async #update(force = false): Promise<void> {
    const stamp = join(this.#root, "updated");
    const isFresh = (): boolean =>
      this.#isUsable() && Math.abs(Date.now() - statSync(stamp).mtimeMs) < LISTS_MAX_AGE_MS;
    if (!force && isFresh()) return;
    await withLock(`${this.#root}.lock`, async () => {
      // Another process may have done it while this one waited.
      if (!force && isFresh()) return;
      this.#progress(`reading Debian ${this.suite}'s package lists`);
      const isUsable = this.#isUsable();
      this.#writeSettings();
      try {
        await this.#apt("apt-get", ["update", "-qq", "--error-on=any"]);
        writeFileSync(stamp, "");
      } catch (error) {
        if (!isUsable) throw error;
        this.#progress(
          `the archive cannot be reached, going on with the lists of ${statSync(stamp).mtime.toDateString()}`,
        );
      }
    });
  }

  /** True if there are lists, of the sources as they are now. */
  #isUsable(): boolean {
    const [stamp, list, conf] = ["updated", "sources.list", "apt.conf"].map((name) => join(this.#root, name));
    return existsSync(stamp!) && existsSync(conf!) && readFileSync(list!, "utf8") === this.#sourceList;
  }

  #writeSettings(): void {
    for (const folder of ["state/lists/partial", "cache/archives/partial", "log"]) {
      mkdirSync(join(this.#root, folder), { recursive: true });
    }
    writeFileSync(join(this.#root, "sources.list"), this.#sourceList);
    writeFileSync(join(this.#root, "state", "status"), "");
    writeFileSync(join(this.#root, "apt.conf"), aptConf(this.#root));
  }

  async #apt(program: "apt-get" | "apt-cache", args: readonly string[], cwd?: string): Promise<string> {
    const options = ["-c", join(this.#root, "apt.conf")];
    try {
      const env = { ...process.env, LC_ALL: "C" };
      const result = await run(program, [...options, ...args], {
        encoding: "utf8",
        env,
        maxBuffer: OUTPUT_MAX_BYTES,
        ...(cwd && { cwd }),
      });
      return result.stdout;
    } catch (cause) {
      const stderr = String((cause as { stderr?: string }).stderr ?? "");
      const reason = stderr
        .split("\n")
        .find((line) => line.startsWith("E:"))
        ?.slice(2)
        .trim();
      throw new PackageError(`${program} ${args[0]} for Debian ${this.suite} failed: ${reason ?? String(cause)}`, {
        cause,
      });
    }
  }
}

/** What differs from the machine's configuration; apt reads it last. */
function aptConf(root: string): string {
  const settings: Record<string, string> = {
    "Dir::Etc::SourceList": join(root, "sources.list"),
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::Etc::Preferences": "/dev/null",
    "Dir::Etc::PreferencesParts": "/dev/null",
    "Dir::State": join(root, "state"),
    "Dir::State::status": join(root, "state", "status"),
    "Dir::Cache": join(root, "cache"),
    // Images for containers save disk space at these four; every call would then unpack and read all lists again.
    "Dir::Cache::pkgcache": "pkgcache.bin",
    "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
    "Dir::Log": join(root, "log"),
    "APT::Architecture": "amd64",
    "APT::Architectures": "amd64",
    "Acquire::Languages": "none",
    "Acquire::GzipIndexes": "false",
    // Apt would otherwise download as a user who cannot write into this user's cache.
    "APT::Sandbox::User": "",
  };
  const clear = [
    "APT::Architectures",
    "APT::Update::Pre-Invoke",
    "APT::Update::Post-Invoke",
    "APT::Update::Post-Invoke-Success",
  ];
  return [
    ...clear.map((key) => `#clear ${key};`),
    ...Object.entries(settings).map(([key, value]) => `${key} ${JSON.stringify(value)};`),
    "",
  ].join("\n");
}
