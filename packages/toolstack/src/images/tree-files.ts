/** Files of our own in a tree of packages. */
import { contentOf, type FileTree, ROOT_OWNED } from "@xenoserver/storage";

export function write(tree: FileTree, path: string, data: string | Uint8Array, mode = 0o644): void {
  tree.put(path, { type: "file", owner: { ...ROOT_OWNED, mode }, content: contentOf(data) });
}

export function link(tree: FileTree, path: string, target: string): void {
  tree.put(path, { type: "symlink", owner: { ...ROOT_OWNED, mode: 0o777 }, target });
}
