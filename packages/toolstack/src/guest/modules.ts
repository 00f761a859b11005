/**
 * Kernel modules for an initramfs: those that are wanted, with all that they depend on.
 *
 * Debian's packages carry no modules.dep (depmod writes it when a package is installed), so dependencies are read from
 * the modules themselves, and the tables that modprobe needs are written for the ones that are taken along.
 */
import { globSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { decodeXz } from "@xenoserver/xen/builder/image/xz.ts";
import { PackageError } from "./package-source.ts";
import type { RootTree } from "./root-tree.ts";

export interface KernelModules {
  /** As `uname -r` prints it. */
  readonly release: string;
  /** What a root file system has as lib/modules/RELEASE; see `unpackModules`. */
  readonly folder: string;
}

interface Module {
  readonly name: string;
  /** Below lib/modules/RELEASE, without a suffix of compression. */
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly depends: readonly string[];
  readonly aliases: readonly string[];
}

/** Needed by others without being named by them: the kernel asks for a checksum by its name, and modprobe finds these. */
const COMPANIONS: Readonly<Record<string, readonly string[]>> = {
  ext4: ["crc32c_generic"],
  jbd2: ["crc32c_generic"],
  btrfs: ["crc32c_generic", "xxhash_generic", "blake2b_generic"],
  xfs: ["crc32c_generic"],
};

export const MAX_MODULE_BYTES = 64 << 20;
export const MODULE_SUFFIX = /\.ko(\.xz|\.gz|\.zst)?$/;

/** The kernel takes "-" and "_" in a module's name for the same. */
export const canonicalModule = (name: string): string => name.replaceAll("-", "_");

/**
 * Adds modules to a root file system, and the tables by which modprobe loads them.
 * @param wanted  names as `modprobe` takes them; those that are built into the kernel are left out
 * @throws PackageError  the kernel has no module of a name
 */
export function addModules(tree: RootTree, { folder, release }: KernelModules, wanted: readonly string[]): void {
  const files = new Map(
    globSync("kernel/**/*.ko{,.xz,.gz,.zst}", { cwd: folder }).map((path) => [
      canonicalModule(path.replace(/^.*\//, "").replace(MODULE_SUFFIX, "")),
      path,
    ]),
  );
  const builtin = readBuiltin(folder);
  const modules = new Map<string, Module>();
  const add = (name: string, optional: boolean): void => {
    if (modules.has(name) || builtin.has(name)) return;
    const path = files.get(name);
    if (path === undefined) {
      if (optional) return;
      throw new PackageError(`kernel ${release}: has no module ${name}`);
    }
    const module = readModule(name, folder, path);
    modules.set(name, module);
    for (const other of module.depends) add(canonicalModule(other), false);
    for (const other of COMPANIONS[name] ?? []) add(other, true);
  };
  for (const name of wanted) add(canonicalModule(name), false);

  const home = `lib/modules/${release}`;
  for (const { path, bytes } of modules.values()) tree.file(`${home}/${path}`, bytes);
  tree.file(`${home}/modules.dep`, dependencyTable(modules));
  tree.file(`${home}/modules.alias`, aliasTable(modules));
  tree.file(`${home}/modules.builtin`, readFileSync(join(folder, "modules.builtin")));
  tree.file("etc/modules", [...wanted.map(canonicalModule), ""].join("\n"));
}

function readBuiltin(folder: string): Set<string> {
  const lines = readFileSync(join(folder, "modules.builtin"), "utf8").split("\n");
  return new Set(lines.map((path) => canonicalModule(path.replace(/^.*\//, "").replace(MODULE_SUFFIX, ""))));
}

function readModule(name: string, folder: string, file: string): Module {
  const bytes = unpackModule(readFileSync(join(folder, file)), file);
  const info = moduleInfo(bytes);
  return {
    name,
    path: relative(folder, join(folder, file)).replace(MODULE_SUFFIX, ".ko"),
    bytes,
    depends: (info.get("depends") ?? []).flatMap((list) => list.split(",")).filter((other) => other !== ""),
    aliases: info.get("alias") ?? [],
  };
}

/** A module's bytes as the kernel takes them, by its file's name. */
export function unpackModule(bytes: Uint8Array, name: string): Uint8Array {
  if (name.endsWith(".xz")) return decodeXz(bytes, { maxBytes: MAX_MODULE_BYTES });
  if (name.endsWith(".gz")) return gunzipSync(bytes);
  return name.endsWith(".zst") ? zstdDecompressSync(bytes) : bytes;
}

/**
 * What a module says of itself: "key=value" strings in its section .modinfo.
 * @throws PackageError  the file is no 64-bit ELF object, or has no such section
 */
export function moduleInfo(bytes: Uint8Array): Map<string, string[]> {
  const section = findSection(bytes, ".modinfo");
  if (section === undefined) throw new PackageError("kernel module: has no section .modinfo");
  const info = new Map<string, string[]>();
  for (const entry of Buffer.from(section).toString("latin1").split("\0")) {
    const equals = entry.indexOf("=");
    if (equals === -1) continue;
    const key = entry.slice(0, equals);
    info.set(key, [...(info.get(key) ?? []), entry.slice(equals + 1)]);
  }
  return info;
}

/** @see the System V ABI's chapter "Object Files", section headers of 64-bit files */
function findSection(bytes: Uint8Array, wanted: string): Uint8Array | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 64 || view.getUint32(0, false) !== 0x7f454c46 || bytes[4] !== 2) {
    throw new PackageError("kernel module: is no 64-bit ELF file");
  }
  const table = Number(view.getBigUint64(40, true));
  const headerBytes = view.getUint16(58, true);
  const sectionAt = (n: number): { name: number; body: Uint8Array } => {
    const at = table + n * headerBytes;
    const offset = Number(view.getBigUint64(at + 24, true));
    return {
      name: view.getUint32(at, true),
      body: bytes.subarray(offset, offset + Number(view.getBigUint64(at + 32, true))),
    };
  };
  const names = Buffer.from(sectionAt(view.getUint16(62, true)).body);
  for (let n = 0; n < view.getUint16(60, true); n++) {
    const { name, body } = sectionAt(n);
    if (names.toString("latin1", name, names.indexOf(0, name)) === wanted) return body;
  }
  return undefined;
}

/** Each module with all that must be loaded before it, the nearest first, as depmod writes it. */
function dependencyTable(modules: ReadonlyMap<string, Module>): string {
  const all = (name: string, found: Set<string>): Set<string> => {
    for (const other of modules.get(name)?.depends ?? []) {
      const dependency = canonicalModule(other);
      if (!modules.has(dependency)) continue;
      // What is needed by several goes behind all of them.
      found.delete(dependency);
      found.add(dependency);
      all(dependency, found);
    }
    return found;
  };
  const lines = [...modules.values()].map(({ name, path }) => {
    const needed = [...all(name, new Set())].map((other) => modules.get(other)!.path);
    return `${path}:${needed.map((other) => ` ${other}`).join("")}\n`;
  });
  return lines.join("");
}

function aliasTable(modules: ReadonlyMap<string, Module>): string {
  return [...modules.values()]
    .flatMap(({ name, aliases }) => aliases.map((alias) => `alias ${alias} ${name}\n`))
    .join("");
}
