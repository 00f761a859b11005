/** Tar archives into trees: one on top of the other, as the layers of a container's image are. */
import { Readable } from "node:stream";
import { extract, type Header } from "tar-stream";
import { StorageError } from "../error.ts";
import type { Content, Spool } from "./content.ts";
import { type DirectoryNode, type FileNode, type FileOwner, type FileTree, partsOf } from "./file-tree.ts";

export interface TarOptions {
  /** What messages call the archive. */
  readonly name: string;
  /** Whether names that begin with ".wh." take away what lower layers have, as in container images. */
  readonly whiteouts?: boolean;
  /** Called with the number of bytes read so far. */
  readonly progress?: (bytes: number) => void;
}

const MAX_ENTRIES = 4_000_000;
const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";
const XATTR_PREFIX = "SCHILY.xattr.";

/**
 * Adds what is in an archive to a tree, on top of what is there.
 * @param spool  takes the files' bytes
 * @throws what the archive throws that is read
 * @throws StorageError  it is no tar archive, or says something that a file system cannot have
 * @see POSIX.1-2017 pax; OCI image-spec, layer.md ("Whiteouts")
 */
export async function addTar(
  tree: FileTree,
  archive: AsyncIterable<Uint8Array>,
  spool: Spool,
  options: TarOptions,
): Promise<void> {
  const layer = new Layer(tree, options.whiteouts === true);
  const parser = extract();
  const source = Readable.from(archive);
  let entries = 0;
  let read = 0;
  source.on("data", (piece: Uint8Array) => options.progress?.((read += piece.length)));
  let sourceError: Error | undefined;
  source.on("error", (error) => {
    sourceError = error;
    parser.destroy(error);
  });
  source.pipe(parser);
  try {
    for await (const entry of parser) {
      if (++entries > MAX_ENTRIES) throw new StorageError(`has more than ${MAX_ENTRIES} entries`);
      const { header } = entry;
      const isFile = header.type === "file" || header.type === "contiguous-file";
      const content = isFile ? await spool.add(entry as AsyncIterable<Uint8Array>, header.name) : undefined;
      if (content === undefined) entry.resume();
      if (content !== undefined && content.sizeBytes !== header.size)
        throw new StorageError(`${header.name}: has ${content.sizeBytes} bytes, expected ${header.size}`);
      layer.add(header, content);
    }
  } catch (cause) {
    source.destroy();
    // Who reads the archive from somewhere knows best what went wrong there.
    if (sourceError !== undefined) throw sourceError;
    const { message } = cause as Error;
    throw new StorageError(`${options.name}: ${message}`, cause instanceof StorageError ? {} : { cause });
  }
  if (read > 0 && entries === 0) throw new StorageError(`${options.name}: has no entries, expected a tar archive`);
}

/** One archive on its way into the tree. */
class Layer {
  readonly #tree: FileTree;
  readonly #whiteouts: boolean;
  /** What this archive brought, and directories on the way to it: whiteouts leave these alone. */
  readonly #own = new Set<FileNode>();

  constructor(tree: FileTree, whiteouts: boolean) {
    this.#tree = tree;
    this.#whiteouts = whiteouts;
  }

  add(header: Header, content: Content | undefined): void {
    const { name } = header;
    const parts = partsOf(name);
    if (parts.includes("..")) throw new StorageError(`${name}: expected a path without ".."`);
    const last = parts.at(-1) ?? "";
    if (this.#whiteouts && last.startsWith(WHITEOUT)) return this.#takeAway(parts.slice(0, -1), last);
    const node = this.#nodeOf(header, content);
    if (node === undefined) return;
    for (let n = 1; n < parts.length; n++) this.#own.add(this.#tree.directory(parts.slice(0, n).join("/")));
    this.#own.add(this.#tree.put(name, node));
  }

  #takeAway(parent: readonly string[], name: string): void {
    const folder = this.#tree.find(parent.join("/"));
    if (folder?.type !== "directory") return;
    if (name === OPAQUE) return this.#dropLower(folder);
    const hidden = name.slice(WHITEOUT.length);
    // Others that begin so are what overlays keep for themselves.
    if (hidden === "" || hidden.startsWith(WHITEOUT)) return;
    this.#dropEntry(folder, hidden);
  }

  #dropLower(folder: DirectoryNode): void {
    for (const name of [...folder.entries.keys()]) this.#dropEntry(folder, name);
  }

  #dropEntry(folder: DirectoryNode, name: string): void {
    const node = folder.entries.get(name);
    if (node === undefined) return;
    if (!this.#own.has(node)) folder.entries.delete(name);
    else if (node.type === "directory") this.#dropLower(node);
  }

  #nodeOf(header: Header, content: Content | undefined): FileNode | undefined {
    const owner = ownerOf(header);
    switch (header.type) {
      case "file":
      case "contiguous-file":
        return { type: "file", owner, content: content! };
      case "directory":
        return { type: "directory", owner, entries: new Map() };
      case "symlink":
        return { type: "symlink", owner, target: header.linkname };
      case "link":
        return this.#linked(header);
      case "character-device":
      case "block-device":
        return {
          type: header.type === "block-device" ? "block-device" : "char-device",
          owner,
          major: header.devmajor,
          minor: header.devminor,
        };
      case "fifo":
        return { type: "fifo", owner };
      default:
        return undefined; // what comes of pax and GNU headers was taken into account by the parser
    }
  }

  #linked({ name, linkname }: Header): FileNode {
    if (partsOf(linkname).includes("..")) throw new StorageError(`${name}: links to ${linkname}, expected no ".."`);
    const node = this.#tree.get(linkname);
    if (node === undefined || node.type === "directory")
      throw new StorageError(`${name}: is a hard link to ${linkname}, which is no file`);
    return node;
  }
}

function ownerOf({ mode, uid, gid, mtime, pax }: Header): FileOwner {
  const xattrs = new Map<string, Uint8Array>();
  for (const [key, value] of Object.entries((pax as Record<string, string> | null | undefined) ?? {})) {
    if (key.startsWith(XATTR_PREFIX)) xattrs.set(key.slice(XATTR_PREFIX.length), Buffer.from(value, "utf8"));
  }
  return {
    mode: mode & 0o7777,
    uid,
    gid,
    mtime: Math.floor(mtime.getTime() / 1000),
    ...(xattrs.size > 0 && { xattrs }),
  };
}
